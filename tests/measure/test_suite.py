"""The suite and its command: measures once, takes up where it stopped, needs only torch, numpy and PyYAML."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from archlab.errors import ArchlabError
from archlab.measure import progress, sections, turns
from archlab.measure.checks import checks_for
from archlab.measure.devices import find_device
from archlab.measure.records import read_records
from archlab.measure.studies import CPU, EVERY_BLOCK, FAMILIES, GPU, QUICK, TINY, Study
from archlab.measure.suite import run_suite
from archlab.nn.cache import Ring

ROOT = Path(__file__).parents[2]
THERE = ("torch", "torchgen", "functorch", "numpy", "numpy.libs", "yaml", "_yaml")
TORCHS = ("sympy", "mpmath", "jinja2", "markupsafe", "networkx", "fsspec", "filelock", "typing_extensions.py")
"""What torch itself needs and comes with."""


@pytest.fixture
def command(tmp_path):
    """python -m archlab.measure on a machine that has little, from a checkout: words to start it by, and how."""
    site = tmp_path / "site"
    site.mkdir()
    installed = Path(torch.__file__).parents[1]
    for name in (*THERE, *TORCHS):
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    env = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    return lambda *words: ([sys.executable, "-S", "-m", "archlab.measure", *words], {"env": env, "text": True})


def lines_of(path):
    return path.read_text().count("\n") if path.is_file() else 0


TIMED = ("latency", "sampled")


@pytest.mark.slow  # two processes, each of which starts torch and measures
def test_a_suite_that_is_killed_is_taken_up_again(tmp_path, command):
    """kill -9 after the first results, half of the last line lost too: nothing else is lost, nothing is done twice."""
    out = tmp_path / "results"
    timed, asked = out / "latency.jsonl", ("suite", "--quick", "--device", "cpu", "--out", str(out), "--json")
    words, how = command(*asked, *[word for name in TIMED for word in ("--section", name)])
    running = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, **how)
    start = time.monotonic()
    while lines_of(timed) < 2:
        assert running.poll() is None and time.monotonic() - start < 120
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    *whole, last = timed.read_bytes().splitlines(True)
    assert 1 <= len(whole) < 5 and not (out / "sampled.jsonl").exists()
    timed.write_bytes(b"".join(whole) + last[: len(last) // 2])
    kept = [r["key"] for r in read_records(timed)]

    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=300, **how)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["failed"], outcome["skipped"], outcome["kept"]) == ({}, {}, kept)
    assert outcome["torn"] == {"latency.jsonl": 1} and "1 line of latency.jsonl was torn or foreign" in done.stderr
    assert timed.read_bytes().startswith(b"".join(whole)), "written over"
    latency, composed = ([*read_records(out / f"{name}.jsonl")] for name in TIMED)
    for records, count in ((latency, 6), (composed, 2)):
        assert len(records) == len({r["key"] for r in records}) == count and {r["status"] for r in records} == {"ok"}
    assert all(r["rooflines"]["mode"] == "quick" and r["bound_s"] > 0 and len(r["samples"]) == r["n"] for r in latency)
    assert all(r["sampled"].startswith("head + 1 and 2 periods") and r["residual"] is not None for r in composed)

    before = {p.name: p.read_bytes() for p in out.iterdir() if p.name != "runs.jsonl"}
    again = run_suite(out, "cpu", quick=True, sections=TIMED, say=lambda _: None)
    assert again.measured == [] and again.failed == {} and set(again.kept) == {r["key"] for r in (*latency, *composed)}
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.name != "runs.jsonl"}
    runs = list(read_records(out / "runs.jsonl"))  # the one that was killed has not come to say anything
    assert [len(r["measured"]) for r in runs] == [len(outcome["measured"]), 0]


@pytest.mark.slow
def test_all_sections_on_a_machine_that_has_little(tmp_path, command):
    words, how = command("suite", "--quick", "--device", "cpu", "--out", str(tmp_path / "results"), "--json")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=300, **how)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["failed"] == {} and list(outcome["skipped"]) == ["memory"] and "CUDA" in outcome["skipped"]["memory"]
    for name, count in (("checks", 5), ("rooflines", 1), ("latency", 6), ("sampled", 2), ("calibration", 1)):
        assert len([*read_records(tmp_path / "results" / f"{name}.jsonl")]) == count
    assert [*read_records(tmp_path / "results" / "operations.jsonl")]
    assert (tmp_path / "results" / "device.yaml").is_file()


TINIES = len(QUICK) + len(EVERY_BLOCK)
TWO = {**TINY, "n_layers": 2, "pattern": ["local", "global"]}
STUDY = Study("gemma-3-270m", "attention.n_kv_heads", (1, 2), prefill=(16,), decode=(16,), fixed=TWO)


@pytest.fixture
def quick(tmp_path, rates, monkeypatch):
    """The suite with made-up rates."""
    monkeypatch.setattr(progress, "measure_rooflines", lambda *_, **__: rates)
    monkeypatch.setattr(turns, "measure_again", lambda rates, device: rates)
    monkeypatch.setattr(sections, "QUICKER", 0.02)
    said = []

    def run(**options):
        said.clear()
        return run_suite(tmp_path, "cpu", quick=True, studies=(STUDY, STUDY), say=said.append, **options), said

    return run


@pytest.mark.slow
def test_takes_up_what_is_missing_and_measures_the_rates_again(quick, tmp_path):
    outcome, _ = quick(sections=("rooflines", "latency"))
    assert len(outcome.measured) == 5 and outcome.exit_code == 0  # four phases once, though two studies ask for them
    lines = (tmp_path / "latency.jsonl").read_text().splitlines()
    (tmp_path / "latency.jsonl").write_text("\n".join(lines[:3]) + '\n{"torn": ')
    outcome, _ = quick(sections=("rooflines", "latency"))
    assert len(outcome.kept) == 4 and len(outcome.measured) == 2  # the phase that was lost, and rates of this session
    assert len(list(read_records(tmp_path / "latency.jsonl"))) == 4
    assert len(list(read_records(tmp_path / "rooflines.jsonl"))) == 2


@pytest.mark.slow
def test_other_code_is_measured_anew(quick, monkeypatch):
    quick(sections=("latency",))
    monkeypatch.setattr(progress, "code_version", lambda: "0123456789abcdef")
    assert len(quick(sections=("latency",))[0].measured) == 5


def test_a_spent_budget_says_what_is_left(quick):
    """Two checks of the fast decoder, three of the cache, the rates and four phases; no GPU for the memory."""
    outcome, said = quick(budget_seconds=0.0, sections=("checks", "rooflines", "latency", "memory"))
    assert not outcome.measured and outcome.exit_code == 0
    assert len(outcome.skipped) == 5 + 1 + 4 + 1 and sum("budget" in line for line in said) == 5 + 1 + 4


def test_what_fails_is_written_said_and_tried_again(quick, monkeypatch):
    def broken(*_):
        raise RuntimeError("illegal instruction\nmore")

    monkeypatch.setattr("archlab.measure.checks.cached_and_full", broken)
    monkeypatch.setattr("archlab.measure.checks.fast_and_reference", broken)
    outcome, said = quick(sections=("checks", "latency"))
    assert outcome.exit_code == 1 and len(outcome.failed) == 5 and len(outcome.measured) == 5
    assert sum(line.startswith("FAILED checks") and "illegal instruction" in line for line in said) == 5
    monkeypatch.undo()


def test_a_wrong_module_fails_its_check(tiny, monkeypatch):
    cpu = find_device("cpu")
    check = next(c for c in checks_for(cpu, "fp32") if c.name == "cached decode equals full forward")
    assert check.run(cpu)["status"] == "ok"
    append = Ring.append

    def forgetful(ring, fresh, position):
        seen = append(ring, fresh, position)
        ring.buffer.zero_()
        return seen

    monkeypatch.setattr(Ring, "append", forgetful)
    wrong = check.run(cpu)
    assert wrong["status"] == "failed" and wrong["largest_difference"] > wrong["allowed"]


def test_a_gpu_is_compared_with_the_cpu_in_both_formats():
    names = [(c.name, c.dtype) for c in checks_for(torch.device("cuda"), "bf16")]
    for what, count in (("device equals CPU in fp32", TINIES), ("fast equals reference", len(FAMILIES))):
        assert names.count((what, "bf16")) == names.count((what, "fp32")) == count


@pytest.mark.parametrize("study", [*QUICK, *CPU, *GPU], ids=lambda s: f"{s.base} {s.key}")
def test_declared_studies_load(study):
    assert len(list(study.points())) == len(study.values) and list(study.workloads())


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(ArchlabError, match="'latncy'; did you mean 'latency'"):
        run_suite(tmp_path, "cpu", sections=("latncy",))
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchlabError, match="file cannot be a folder of results: file exists"):
        run_suite(tmp_path / "file", "cpu")


def test_command_line_of_one_model(tmp_path, capsys, rates, monkeypatch):
    from archlab.measure.__main__ import main

    monkeypatch.setattr("archlab.measure.single.measure_rooflines", lambda *_: rates)
    monkeypatch.setattr("archlab.measure.turns.measure_again", lambda *_: rates)
    keys = [f"{key}={value}" for key, value in TINY.items() if key != "n_layers"] + ["n_layers=3"]
    assert (
        main(["run", "gemma-3-270m", *keys, "--context", "32", "--device", "cpu", "--seconds", "0.02", "--json"]) == 0
    )
    records = json.loads(capsys.readouterr().out)["records"]
    assert [(r["phase"], r["context"], r["status"]) for r in records] == [("prefill", 32, "ok"), ("decode", 32, "ok")]
    words = [*keys, "pattern=[global]", "--context", "32", "--device", "cpu", "--seconds", "0.02"]
    monkeypatch.setattr("archlab.measure.sampled.last_cache_bytes", lambda _: 0)
    assert main(["run", "gemma-3-270m", *words, "--sampled"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("head + 1 and 2 periods of 1 layer, residual" in line for line in lines)
    assert main(["run", "gemma-3-270m", *words, "--backend", "reference"]) == 0
    assert "reference, Python, matrix products and a softmax" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gemma-3-270"], "did you mean 'gemma-3-270m'"),
        (["gemma-3-270m", "d_model"], "must be key=value"),
        (["gemma-3-270m", "--device", "tpu"], "device='tpu' must be cpu, cuda or cuda:N"),
        (["gemma-3-270m", "--device", "cuda:99"], "device='cuda:99' is not there"),
        (["gemma-3-270m", "--backend", "fats"], "backend='fats' must be fast or reference; did you mean 'fast'?"),
        (["gpt2-xl", "--backend", "fast", "--device", "cpu"], "backend=fast does not cover gpt2-xl here"),
        (["gemma-3-27b-text", "--context", "1m", "--batch", "4096", "--device", "cpu"], "TiB too much"),
        (["half.yaml"], "half.yaml"),
    ],
)
def test_bad_input_of_one_model_is_one_sentence(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half.yaml").write_text("name: half\nfamily: gemma3\nd_model: 64\nattention: {n_heads: 4, n_kv")
    from archlab.measure.__main__ import main

    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and said in error
