"""What is said of known samples, and what a file of results survives."""

import json
import subprocess
import sys

import numpy
import pytest

import archlab
from archlab.measure.provenance import code_version, config_hash
from archlab.measure.records import append_record, read_records
from archlab.measure.stats import summarize


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
