"""The suite and its command: measures once, takes up where it stopped, needs only torch, numpy and PyYAML."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archlab.errors import ArchlabError
from archlab.measure import points
from archlab.measure import suite as suite_module
from archlab.measure.checks import checks_for
from archlab.measure.devices import find_device
from archlab.measure.records import read_records
from archlab.measure.studies import CPU, EVERY_BLOCK, GPU, QUICK, TINY, Study
from archlab.measure.suite import run_suite
from archlab.nn.cache import Ring

ROOT = Path(__file__).parents[2]
ABSENT = ("pandas", "pyarrow", "hydra", "omegaconf", "typer", "fvcore", "sympy", "plotly", "jinja2", "transformers")

BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(name + " is not here")
sys.meta_path.insert(0, Blocker())
import runpy
sys.argv = ["archlab.measure", *sys.argv[1:]]
runpy.run_module("archlab.measure", run_name="__main__")
"""


def bare(*arguments, at):
    """python -m archlab.measure on a machine that has little: from a checkout, in another folder."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], cwd=at, env=env, capture_output=True, text=True, timeout=120
    )


def test_quick_suite_twice_on_a_bare_machine(tmp_path):
    first = bare("suite", "--quick", "--device", "cpu", "--out", "results", "--json", at=tmp_path)
    assert first.returncode == 0, first.stderr
    done = json.loads(first.stdout)
    assert done["kept"] == [] and done["failed"] == {} and list(done["skipped"]) == ["memory"]
    latency = list(read_records(tmp_path / "results" / "latency.jsonl"))
    assert len(latency) == 6 and {r["status"] for r in latency} == {"ok"}
    assert all(r["rooflines"]["mode"] == "quick" and r["bound_s"] > 0 and len(r["samples"]) == r["n"] for r in latency)
    before = {p.name: p.read_bytes() for p in (tmp_path / "results").iterdir() if p.name != "runs.jsonl"}
    second = bare("suite", "--quick", "--device", "cpu", "--out", "results", at=tmp_path)
    assert second.returncode == 0 and second.stdout.startswith(f"0 measured, {len(done['measured'])} kept, 0 failed")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "results").iterdir() if p.name != "runs.jsonl"}
    runs = list(read_records(tmp_path / "results" / "runs.jsonl"))
    assert [len(r["measured"]) for r in runs] == [len(done["measured"]), 0] and "CUDA" in runs[1]["skipped"]["memory"]


TINIES = len(QUICK) + len(EVERY_BLOCK)
STUDY = Study("gemma-3-270m", "attention.n_kv_heads", (1, 2), prefill=(16,), decode=(16,), fixed=TINY)


@pytest.fixture
def quick(tmp_path, rates, monkeypatch):
    """The suite with made-up rates."""
    monkeypatch.setattr(suite_module, "measure_rooflines", lambda *_, **__: rates)
    monkeypatch.setattr(points, "measure_again", lambda rates, device: rates)
    monkeypatch.setattr(suite_module, "TRIAL_S", {True: 0.02})
    said = []

    def run(**options):
        said.clear()
        return run_suite(tmp_path, "cpu", quick=True, studies=(STUDY, STUDY), say=said.append, **options), said

    return run


def test_takes_up_what_is_missing_and_measures_the_rates_again(quick, tmp_path):
    outcome, _ = quick(sections=("rooflines", "latency"))
    assert len(outcome.measured) == 5 and outcome.exit_code == 0  # four phases once, though two studies ask for them
    lines = (tmp_path / "latency.jsonl").read_text().splitlines()
    (tmp_path / "latency.jsonl").write_text("\n".join(lines[:3]) + '\n{"torn": ')
    outcome, _ = quick(sections=("rooflines", "latency"))
    assert len(outcome.kept) == 4 and len(outcome.measured) == 2  # the phase that was lost, and rates of this session
    assert len(list(read_records(tmp_path / "latency.jsonl"))) == 4
    assert len(list(read_records(tmp_path / "rooflines.jsonl"))) == 2


def test_other_code_is_measured_anew(quick, monkeypatch):
    quick(sections=("latency",))
    monkeypatch.setattr(suite_module, "code_version", lambda: "0123456789abcdef")
    assert len(quick(sections=("latency",))[0].measured) == 5


def test_a_spent_budget_says_what_is_left(quick):
    outcome, said = quick(budget_seconds=0.0)
    assert not outcome.measured and outcome.exit_code == 0
    assert (
        len(outcome.skipped) == TINIES + 4 + 1 + 1 and sum("budget" in line for line in said) == TINIES + 5
    )  # memory: no GPU here


def test_what_fails_is_written_said_and_tried_again(quick, monkeypatch):
    def broken(*_):
        raise RuntimeError("illegal instruction\nmore")

    monkeypatch.setattr("archlab.measure.checks.cached_and_full", broken)
    outcome, said = quick(sections=("checks", "latency"))
    assert outcome.exit_code == 1 and len(outcome.failed) == TINIES and len(outcome.measured) == 5
    assert sum(line.startswith("FAILED checks") and "illegal instruction" in line for line in said) == TINIES
    monkeypatch.undo()


def test_a_wrong_module_fails_its_check(tiny, monkeypatch):
    cpu = find_device("cpu")
    [check, *_] = checks_for(cpu, "fp32")
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
    import torch

    names = [(c.name, c.dtype) for c in checks_for(torch.device("cuda"), "bf16")]
    assert (
        names.count(("device equals CPU in fp32", "bf16"))
        == names.count(("device equals CPU in fp32", "fp32"))
        == TINIES
    )


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

    monkeypatch.setattr("archlab.measure.bench.measure_rooflines", lambda *_: rates)
    monkeypatch.setattr("archlab.measure.bench.measure_again", lambda *_: rates)
    keys = [f"{key}={value}" for key, value in TINY.items()]
    assert (
        main(["run", "gemma-3-270m", *keys, "--context", "32", "--device", "cpu", "--seconds", "0.02", "--json"]) == 0
    )
    records = json.loads(capsys.readouterr().out)["records"]
    assert [(r["phase"], r["context"], r["status"]) for r in records] == [("prefill", 32, "ok"), ("decode", 32, "ok")]
    for bad in (["run", "gemma-3-270"], ["run", "gemma-3-270m", "d_model"], ["run", "gemma-3-270m", "--device", "tpu"]):
        assert main(bad) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("error: ")
