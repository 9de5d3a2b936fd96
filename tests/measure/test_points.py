"""Points in turns, within a budget; nothing here depends on how fast the machine is."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

import archlab
from archlab.assemble import resolve
from archlab.measure import builds, cases, turns
from archlab.measure.devices import find_device
from archlab.measure.points import measure_points, tasks_of
from archlab.measure.rooflines import measure_again, measure_rooflines
from archlab.measure.session import Session
from archlab.measure.turns import measure_tasks
from archlab.schema import override

TINY = {"d_model": 32, "n_layers": 3, "vocab_size": 64, "attention.n_heads": 4, "attention.head_dim": 8, "mlp.d_ff": 48}
COLUMNS = {
    "point", "base", "workload", "phase", "batch", "context", "new", "median_s", "p5_s", "p95_s", "ci_low_s",
    "ci_high_s", "n", "warmup_s", "device", "dtype", "backend", "reason_backend", "runs", "attention", "kernels",
    "source", "sampled", "residual", "verified_on", "bound_s", "drift", "group_drift", "status", "reason", "warnings",
    "read_bytes_per_s", "copy_bytes_per_s", "d_ff",
}  # fmt: skip
SHORT = {"n_layers": 2, "pattern": ["local", "global"]}
WORK = ("w", archlab.Workload(new=16, logits="last"))


@pytest.fixture
def three(tiny):
    heads = (1, 2, 4)
    return [(f"K={k}", resolve(override(dict(tiny.data), SHORT | {"attention.n_kv_heads": k}))) for k in heads]


def test_rows_are_flat_and_the_raw_file_holds_the_samples(three, rates, tmp_path):
    raw = tmp_path / "raw.jsonl"
    rows = list(measure_points(three, [WORK], 20, device="cpu", seconds=0.05, rooflines=rates, raw=raw))
    assert [(r["point"], r["phase"]) for r in rows] == [(f"K={k}", p) for k in (1, 2, 4) for p in ("prefill", "decode")]
    for row in rows:
        assert set(row) == COLUMNS and row["status"] == "ok" and row["base"] == "gemma-3-270m" and row["d_ff"] == 48
        assert all(isinstance(value, int | float | str) for key, value in row.items() if key != "residual")
        assert row["residual"] is None and (row["source"], row["runs"]) == ("measured", "TorchScript trace")
        assert "aten::mm " in row["kernels"] and row["kernels"].count("%") == 8
        assert (row["read_bytes_per_s"], row["copy_bytes_per_s"]) == (1e10, 8e9)
    lines = [json.loads(line) for line in raw.read_text().splitlines()]
    assert [len(line["samples"]) for line in lines] == [row["n"] for row in rows]


def test_configurations_take_turns(three, rates, monkeypatch):
    """A B C A B C, not A A B B C C."""
    order = []
    sample = turns.Trial.sample

    def noted(trial, *args):
        order.append(trial.bench.spec.data["attention"]["n_kv_heads"])
        sample(trial, *args)

    monkeypatch.setattr(turns.Trial, "sample", noted)
    list(measure_points(three, [WORK], 20, ("decode",), device="cpu", seconds=0.05, rooflines=rates))
    assert order[:6] == [1, 2, 4, 1, 2, 4] and order[-1] == 1  # the first once more at the end


@pytest.mark.parametrize(
    ("spent", "n", "enough"),
    [(0.9, 50, False), (1.0, 4, False), (1.0, 5, True), (2.9, 4, False), (3.0, 3, True), (3.0, 2, False)],
)
def test_enough_is_time_and_samples_and_long_passes_need_fewer(rates, spent, n, enough):
    session = Session(find_device("cpu"), "fp32", rates, seconds=1.0)
    trial = SimpleNamespace(sampler=SimpleNamespace(spent_s=spent, samples=[1.0] * n, full=False))
    assert turns._enough(trial, session) == enough
    trial.sampler.full = True
    assert turns._enough(trial, session)


@pytest.mark.slow
def test_models_that_do_not_fit_side_by_side_follow_each_other(three, rates, monkeypatch):
    session = Session(find_device("cpu"), "fp32", rates, seconds=0.02)
    tasks = [task for label, spec in three for task in tasks_of(label, spec, [WORK])]
    models = builds.models_of(tasks, "fp32", session.device)
    assert [len(group) for group in builds.groups(models, session)] == [3]
    monkeypatch.setattr(builds, "available_bytes", lambda device: 1)
    assert [len(group) for group in builds.groups(models, session)] == [1, 1, 1]
    assert [record.status for _, record in measure_tasks(tasks, session)] == ["ok"] * 6


def test_a_bound_above_the_budget_is_not_even_built(three, rates, monkeypatch):
    monkeypatch.setattr(cases, "Bench", lambda *_: pytest.fail("built all the same"))
    slow = replace(rates, read_bytes_per_s=1.0, matmul_flops_per_s=1.0)
    rows = list(measure_points(three, [WORK], 5, device="cpu", rooflines=slow))
    assert {row["status"] for row in rows} == {"skipped"} and len(rows) == 6
    assert all("one repetition takes at least" in row["reason"] and row["median_s"] is None for row in rows)


def test_what_cannot_fit_is_skipped_with_the_numbers_and_the_rest_goes_on(three, rates):
    huge = ("huge", archlab.Workload(batch=2**20, new=1, context=2**20))
    rows = list(measure_points(three[:1], [huge, WORK], 20, ("decode",), device="cpu", seconds=0.02, rooflines=rates))
    assert [row["status"] for row in rows] == ["skipped", "ok"] and "TiB" in rows[0]["reason"]


def test_a_model_that_breaks_is_reported_and_the_others_are_measured(three, rates, monkeypatch):
    real = cases.Bench

    def sometimes(spec, *args):
        if spec.data["attention"]["n_kv_heads"] == 2:
            raise RuntimeError("no kernel for this shape")
        return real(spec, *args)

    monkeypatch.setattr(cases, "Bench", sometimes)
    rows = list(measure_points(three, [WORK], 20, ("decode",), device="cpu", seconds=0.02, rooflines=rates))
    found = {row["point"]: (row["status"], row["reason"]) for row in rows}
    assert found == {"K=1": ("ok", ""), "K=2": ("failed", "RuntimeError: no kernel for this shape"), "K=4": ("ok", "")}


def test_a_trial_cut_short_is_not_called_measured(three, rates):
    session = Session(find_device("cpu"), "fp32", rates, deadline=0.0)  # long past
    [task] = tasks_of(*three[0], [WORK], ("decode",))
    [(_, record)] = turns._measure_group(builds.models_of([task], "fp32", session.device), session)
    assert record.status == "skipped" and "0 of at least 3" in record.reason


def test_the_first_phase_is_measured_again_and_a_device_that_changed_is_said(three, rates, monkeypatch):
    """By 15 % on a CPU; here the clock says twice the time once the turns are over."""
    pace = [1.0]
    clock = turns.Trial.sample

    def slower(trial, *args):
        clock(trial, *args)
        trial.sampler.samples[:] = [pace[0]] * len(trial.sampler.samples)

    def over(*args):
        take_turns(*args)
        pace[0] = 2.0

    take_turns = turns._take_turns
    monkeypatch.setattr(turns.Trial, "sample", slower)
    monkeypatch.setattr(turns, "_take_turns", over)
    asked = (three[:2], [WORK], 1e6, ("decode",))
    rows = list(measure_points(*asked, device="cpu", seconds=0.02, rooflines=rates))
    assert [row["group_drift"] for row in rows] == [1.0, 1.0]
    assert all("slower while the group was timed: by 100%" in row["warnings"] for row in rows)
    pace[0] = 1.0
    monkeypatch.setattr(turns, "_take_turns", take_turns)
    rows = list(measure_points(*asked, device="cpu", seconds=0.02, rooflines=rates))
    assert [row["group_drift"] for row in rows] == [0.0, 0.0]
    assert not any("while the group" in row["warnings"] for row in rows)


@pytest.mark.slow
def test_a_workload_that_leaves_the_fast_way_says_so(rates):
    """PaliGemma's prefix is a mask: its prefill takes the reference, its step does not, side by side in one sweep."""
    spec = archlab.load("paligemma-3b-224", {**TINY, "attention.n_kv_heads": 1, "vision": None})
    work = ("p", archlab.Workload(new=16, logits="last", prefix=16))
    rows = {
        r["phase"]: r for r in measure_points([("p", spec)], [work], 20, device="cpu", seconds=0.02, rooflines=rates)
    }
    assert (rows["decode"]["backend"], rows["decode"]["runs"]) == ("fast", "TorchScript trace")
    prefill = rows["prefill"]
    assert (prefill["backend"], prefill["runs"], prefill["status"]) == ("reference", "Python", "ok")
    assert prefill["reason_backend"] == "a prefix whose tokens all see each other needs a mask"
    asked = {"device": "cpu", "seconds": 0.02, "rooflines": rates}
    forced = {r["phase"]: r for r in measure_points([("p", spec)], [work], 20, backend="fast", **asked)}
    assert forced["prefill"]["status"] == "skipped" and "does not cover" in forced["prefill"]["reason"]
    assert forced["decode"]["status"] == "ok"


def test_named_workloads_and_unknown_ones(three, rates):
    with pytest.raises(archlab.errors.ArchlabError, match="short-512"):
        list(measure_points(three, ["short-51"], 1, device="cpu", rooflines=rates))


def test_the_better_rates_count_and_a_full_device_keeps_the_first(rates, monkeypatch):
    slower_and_faster = replace(rates, read_bytes_per_s=9e9, matmul_flops_per_s=2e11, seconds=2.0, cells=({"n": 1},))
    both = rates.best_of(slower_and_faster)
    assert (both.read_bytes_per_s, both.matmul_flops_per_s, both.cells) == (1e10, 2e11, ({"n": 1},))
    monkeypatch.setattr("archlab.measure.rooflines.available_bytes", lambda device: 2**20)
    assert measure_again(rates, find_device("cpu")) is rates


def test_rooflines_become_a_device(monkeypatch):
    monkeypatch.setattr("archlab.measure.rooflines.BUFFERS", {"cpu": {"quick": (4,)}})
    monkeypatch.setattr("archlab.measure.rooflines.MATRICES", {"cpu": {"quick": (64, 128)}})
    monkeypatch.setattr("archlab.measure.rooflines.SECONDS", {"quick": 0.01})
    found = measure_rooflines("cpu", "bf16")
    device = found.hardware()
    assert (device.name, device.status, device.kind, [*device.peak_flops]) == ("this-cpu", "measured", "cpu", ["bf16"])
    assert [c["how"] for c in found.cells] == ["copy", "sum", "matvec", "matmul", "matmul"]
    reads = [c["best_per_s"] for c in found.cells if c["rate"] == "read"]
    assert device.bandwidth_bytes_per_s == found.read_bytes_per_s == max(reads)
    assert all(c["median_per_s"] <= c["best_per_s"] for c in found.cells)
