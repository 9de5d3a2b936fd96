"""Single operations timed on the CPU: cold where a step finds them cold, in turns, written as they come."""

import json
import math
from itertools import pairwise

import pytest
import torch

from archlab.calibration import ATTENTION
from archlab.measure import operations
from archlab.measure.laws import fit_kernels
from archlab.measure.operations import Arena, Trial, cache_bytes, measure_operations
from archlab.measure.records import read_records
from archlab.measure.shapes import Attend, Elementwise, Product, name_of, operation_from, operations_for
from archlab.nn.kernels import kernels_for

CPU = torch.device("cpu")
FEW = [
    Product(1, 64, 32), Product(8, 32, 64), Attend(2, 2, 2, 16, 1, 24), Attend(1, 1, 4, 16, 32, 32, 8),
    Attend(1, 2, 2, 16, 32, 32, None, True), Elementwise("norm", 4, 64), Elementwise("gate", 4, 64),
]  # fmt: skip


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """A last cache of 64 KiB, and hardly any time."""
    monkeypatch.setattr(operations, "cache_bytes", lambda device: 2**16)
    monkeypatch.setattr(operations, "ROUND_S", 1e-5)
    monkeypatch.setitem(operations.WARMUP_S, "cpu", 0.0)


def measured(path, which=FEW, **more):
    return measure_operations(path, which, "cpu", "fp32", seconds=0.0, **more)


def test_records_say_what_was_timed_where_and_every_sample(tmp_path):
    path, said = tmp_path / "operations.jsonl", []
    assert measured(path, say=said.append) == {}
    found = list(read_records(path))
    assert [r["shape"] for r in found] == [name_of(op) for op in FEW] and len(said) == len(FEW)
    for record in found:
        assert record["status"] == "ok" and record["n"] == len(record["samples"]) == operations.TURNS
        assert min(record["samples"]) <= record["median_s"] <= max(record["samples"])
        assert record["runs"] >= record["copies"] >= 1 and record["dtype"] == "fp32"
        assert {"utc", "torch", "code_version", "threads"} <= set(record["provenance"])
        assert record["key"].startswith(record["shape"]) and "torch" in record["key"]
        json.dumps(record, allow_nan=False)


def test_what_is_there_is_not_timed_again(tmp_path):
    path = tmp_path / "operations.jsonl"
    measured(path, FEW[:3])
    first = path.read_text()
    measured(path)
    assert path.read_text().startswith(first) and len(list(read_records(path))) == len(FEW)


def test_what_breaks_is_written_down_and_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "operations.jsonl"
    broken = Product(1, 64, 32)
    with monkeypatch.context() as patch:
        runs = dict(operations.RUNS) | {Product: lambda *_: lambda: 1 / 0}
        patch.setattr(operations, "RUNS", runs)
        assert measured(path) == {name_of(op): "ZeroDivisionError: division by zero" for op in FEW[:2]}
    assert [r["status"] for r in read_records(path)] == ["failed"] * 2 + ["ok"] * 5
    assert measured(path, [broken]) == {}
    assert list(read_records(path))[-1]["status"] == "ok"


def test_a_spent_budget_leaves_whole_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(operations, "AT_ONCE", 2)
    left = measured(tmp_path / "operations.jsonl", budget_seconds=0.0)
    assert set(left) == {name_of(op) for op in FEW} and "budget" in left[name_of(FEW[-1])]


def test_cold_operands_lie_apart_and_pass_the_cache_several_times():
    arena = Arena(CPU, "fp32", 2**16, FEW)
    for op in (Product(1, 64, 32), Attend(2, 2, 2, 16, 1, 24)):
        seen = []
        by = kernels_for(CPU)
        steps = arena.steps(op, by)
        for step in steps:
            cold = step.args[2] if isinstance(op, Product) else step.args[3]
            seen.append(cold.data_ptr())
            assert cold.data_ptr() != step.args[0].data_ptr()
        size = 4 * math.prod(op.cold())
        assert len(set(seen)) == len(steps) == arena.copies(op) and len(steps) * size >= 4 * 2**16
        assert min(b - a for a, b in pairwise(seen)) >= size
    assert len(arena.steps(Elementwise("gate", 4, 64), by)) == 1


def test_an_operation_that_memory_has_no_room_for_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(operations, "available_bytes", lambda device: 4 * 2**20)
    left = measured(tmp_path / "operations.jsonl", [Product(1, 64, 32), Product(1, 4096, 4096)])
    assert list(left) == ["linear batch=1 m=1 n=4096 k=4096"] and "1.00 MiB may be used" in next(iter(left.values()))


def test_runs_compute_what_they_are_named_for():
    """The product against torch's; attention of one token against a softmax over the same cache; a window's edge."""
    arena, by = Arena(CPU, "fp32", 2**16, FEW), kernels_for(CPU)
    with torch.inference_mode():
        product = arena.steps(FEW[1], by)[3]
        x, _, weight = product.args
        assert torch.allclose(product(), x @ weight.T, atol=1e-5) and product().shape == (1, 8, 32)
        step = arena.steps(FEW[2], by)[0]
        out, qkv = step(), step.args[0]
        q, (keys, values) = qkv[:, 0, : 4 * 16].view(2, 2, 2, 16), step.args[3:5]
        scores = torch.einsum("bkgh,bukh->bkgu", q, keys) / 4
        expected = torch.einsum("bkgu,bukh->bkgh", scores.softmax(-1), values)
        assert torch.allclose(out.reshape(2, 2, 2, 16), expected, atol=1e-5)
        windowed = arena.steps(FEW[3], by)[0]
        q, k, v = windowed.args[:3]
        last = torch.einsum("nh,uh->nu", q[0, -1], k[0, -8:, 0]) / 4
        assert torch.allclose(windowed()[0, -1], last.softmax(-1) @ v[0, -8:, 0], atol=1e-5)


def test_a_round_is_not_shorter_than_it_is_told(monkeypatch):
    monkeypatch.setattr(operations, "ROUND_S", 0.01)
    trial = Trial(Elementwise("gate", 1, 32), Arena(CPU, "fp32", 2**16, FEW), kernels_for(CPU))
    trial.warm_up(0.0)
    assert trial.runs > 20


def test_the_last_cache_is_the_systems_or_a_usual_one(tmp_path, monkeypatch):
    for text, expected in (("32768K", 2**25), ("260M", 260 * 2**20), ("nonsense", operations.USUAL_CACHE)):
        file = tmp_path / "size"
        file.write_text(text + "\n")
        monkeypatch.setattr(operations, "CACHE_FILE", file)
        assert cache_bytes(CPU) == expected
    monkeypatch.setattr(operations, "CACHE_FILE", tmp_path / "none")
    assert cache_bytes(CPU) == operations.USUAL_CACHE


def test_the_quick_grid_is_enough_for_every_law(tmp_path):
    """Real timings of tiny operations: laws of every kind come of them, and predict other sizes of the same order."""
    measured(tmp_path / "operations.jsonl", operations_for("cpu", quick=True))
    found = list(read_records(tmp_path / "operations.jsonl"))
    laws = fit_kernels([(operation_from(r["operation"]).kernel(4), r["median_s"]) for r in found])
    assert set(laws.attention) == set(ATTENTION)
    for op in (Product(1, 200, 100), Product(100, 100, 100), Attend(1, 2, 2, 16, 1, 64), Elementwise("norm", 32, 64)):
        assert 1e-7 < op.kernel(4).alone(laws) < 1
