"""What is said of known samples, and what a file of results survives."""

import dataclasses
import json
import subprocess
import sys

import numpy
import pytest

import archlab
from archlab.measure.provenance import code_version, config_hash
from archlab.measure.records import Record, append_record, distinct, read_records, torn_lines
from archlab.measure.stats import middle, resampled, summarize


def test_summary_of_one_to_a_hundred():
    summary = summarize([float(n) for n in range(1, 101)])
    assert (summary.n, summary.median_s) == (100, 50.5)
    assert summary.p5_s == pytest.approx(5.95) and summary.p95_s == pytest.approx(95.05)
    assert summary.drift == pytest.approx(75.5 / 25.5 - 1)
    assert summary.ci_low_s < summary.median_s < summary.ci_high_s


def test_interval_holds_the_true_median_about_95_times_in_100():
    """Against a distribution whose median is known: exponential, ln 2."""
    generator = numpy.random.default_rng(1)
    intervals = [summarize(generator.exponential(size=40)) for _ in range(100)]
    assert 88 <= sum(s.ci_low_s <= numpy.log(2) <= s.ci_high_s for s in intervals) <= 100


def test_interval_is_repeatable_and_shrinks_to_equal_samples():
    samples = [1.0, 2.0, 4.0, 8.0, 9.0]
    assert summarize(samples, seed=3) == summarize(samples, seed=3)
    flat = summarize([0.25] * 9)
    assert (flat.ci_low_s, flat.median_s, flat.ci_high_s, flat.drift) == (0.25, 0.25, 0.25, 0.0)
    assert summarize([0.5]).drift == 0.0


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    append_record(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "samples": [0.1, ')  # the power went out
    assert list(read_records(path)) == [{"n": 1}]
    append_record(path, {"n": 3})
    assert list(read_records(path)) == [{"n": 1}, {"n": 3}]
    assert list(read_records(tmp_path / "absent.jsonl")) == []


def test_torn_and_foreign_lines_are_counted(tmp_path):
    path = tmp_path / "results.jsonl"
    assert torn_lines(path) == 0
    path.write_text('{"key": "a"}\n[1, 2]\nhello\n\n{"n": 1}\n{"key": "b", "sam')
    assert [r.get("key") for r in read_records(path)] == ["a", None]
    assert torn_lines(path) == 3 and torn_lines(path, having="key") == 4


OLD = (
    '{"model": "gemma-3-270m", "phase": "decode", "backend": "eager", "status": "ok", "median_s": 0.01, "samples": '
    '[0.01], "provenance": {"gpu_state": null}}'
)


def test_what_was_written_before_is_still_read(tmp_path):
    """Without the fields that came since; those have a default that says what was true then."""
    path = tmp_path / "results.jsonl"
    path.write_text(OLD + "\n")
    [old] = read_records(path)
    assert old["median_s"] == 0.01 and torn_lines(path) == 0
    defaults = {f.name: f.default for f in dataclasses.fields(Record)}
    assert (defaults["source"], defaults["sampled"], defaults["residual"]) == ("measured", "", None)


def test_interval_of_a_sum_of_medians():
    """Of two normal samples with known medians, from n = 40: 95 in 100 hold the truth, and constants have no width."""
    generator = numpy.random.default_rng(2)
    truth = -2 * 10 + 3 * 12
    held = 0
    for _ in range(100):
        sets = generator.normal(10, 0.1, 40), generator.normal(12, 0.1, 40)
        a, b = resampled(sets)
        low, high = middle(-2 * a + 3 * b)
        held += low <= truth <= high
    assert 88 <= held <= 100
    a, b = resampled(([10.0] * 5, [12.0] * 7))
    assert middle(-2 * a + 3 * b) == (truth, truth)


def test_warnings_that_differ_in_numbers_are_one():
    texts = ["the load: 3.3 on 2", "the device became 19% slower", "the load: 3.0 on 2", "the load: 3.3 on 2"]
    assert distinct(texts) == ("the load: 3.3 on 2", "the device became 19% slower") and distinct([]) == ()


def test_what_json_cannot_say_is_refused_before_it_is_written(tmp_path):
    with pytest.raises(ValueError):
        append_record(tmp_path / "results.jsonl", {"median_s": float("nan")})
    assert list(read_records(tmp_path / "results.jsonl")) == []


def test_config_hash_is_of_the_values():
    base = archlab.load("gemma-3-270m")
    assert config_hash(base) == config_hash(archlab.load("gemma-3-270m", {"attention.n_kv_heads": 1}))
    assert config_hash(base) != config_hash(archlab.load("gemma-3-270m", {"attention.n_kv_heads": 2}))
    assert len(config_hash(base)) == 64 and len(code_version()) == 16
    reordered = dict(reversed(base.data.items()))
    assert json.dumps(reordered) != json.dumps(base.data)
    assert config_hash(archlab.presets.resolve(reordered)) == config_hash(base)


def test_hashing_and_reading_start_no_torch():
    code = (
        "import archlab, sys; from archlab.measure import append_record, config_hash, read_records, Record;"
        "config_hash(archlab.load('gemma-2-9b')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
