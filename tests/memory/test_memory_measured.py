"""What only a GPU runs, with torch.cuda's answers made up: the logic around the calls, not the calls."""

from types import SimpleNamespace

import pytest
import torch

import archlab
from archlab.errors import ArchlabError
from archlab.measure import memory_peaks, memory_runtime, suite
from archlab.measure.memory_peaks import Task, measure_peak, tasks
from archlab.measure.records import read_records

MIB = 2**20
CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")


@pytest.fixture
def card(monkeypatch):
    """A GPU of 8 GiB whose allocator holds 100 bytes before each step, and at most 900 while it runs."""
    answers = {
        "memory_allocated": lambda _: 100, "memory_reserved": lambda _: 200, "max_memory_allocated": lambda _: 1000,
        "max_memory_reserved": lambda _: 2200, "reset_peak_memory_stats": lambda _: None, "synchronize": lambda _: None,
        "mem_get_info": lambda _: (6 * 2**30, 8 * 2**30), "get_device_name": lambda _: "a card",
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(memory_peaks, "available_bytes", lambda _: 6 * 2**30)


@pytest.mark.parametrize(
    "task", [*tasks(quick=True)], ids=lambda task: "training" if task.work.train else f"new {task.work.new}"
)
def test_a_step_runs_and_stands_beside_tracker_and_rows(task, card):
    """On the CPU: the step itself is real, the allocator's answers are not."""
    record = measure_peak(task, CPU, "bf16")
    assert (record["peak_allocated_bytes"], record["peak_reserved_bytes"]) == (900, 2000)
    assert record["tracked_error"] == record["tracked_bytes"] / 900 - 1 and record["rows_bytes"] > 0
    assert record["status"] == "ok" and record["provenance"]["torch"] and record["model"] == task.spec.name


def test_what_does_not_fit_is_refused(card, monkeypatch):
    monkeypatch.setattr(memory_peaks, "available_bytes", lambda _: 2**16)
    [task, *_] = tasks(quick=True)
    with pytest.raises(ArchlabError, match=r"needs .* for a prefill step, and .* has 64.00 KiB left"):
        measure_peak(task, CPU, "bf16")


def test_default_tasks_load():
    found = [*tasks(quick=False)]
    assert len(found) == 3 * 2 * len(memory_peaks.MODELS)
    assert {task.work.train for task in found} == {True, False}


class FakeChild:
    """Takes 300 MiB of context and 2 of the allocator; a workspace of 32 and 1; ends when it is told."""

    def __init__(self, device):
        self.said = iter(({"what": "context", "reserved": 2 * MIB}, {"bytes": 32 * MIB, "reserved": 42 * MIB},
                          {"bytes": MIB, "reserved": 44 * MIB}))  # fmt: skip
        self.told, self.ended = 0, False

    def answer(self):
        return next(self.said)

    def go_on(self):
        self.told += 1

    def end(self):
        self.ended = True


def test_context_and_workspaces_are_what_a_child_takes(monkeypatch):
    free = iter((8000 * MIB, 7698 * MIB, 7600 * MIB))
    monkeypatch.setattr(memory_runtime, "free_bytes", lambda _: next(free))
    monkeypatch.setattr(memory_runtime, "device_name", lambda _: "a card")
    monkeypatch.setattr(memory_runtime, "provenance", lambda _: {})
    monkeypatch.setattr(memory_runtime, "gpu_state", lambda _: None)
    children = []

    def start(device):
        children.append(FakeChild(device))
        return children[-1]

    found = memory_runtime.measure_runtime(CUDA, start)
    assert found["context_bytes"] == 300 * MIB and found["context_after_products_bytes"] == 356 * MIB
    assert (found["cublas_workspace_bytes"], found["cublaslt_workspace_bytes"]) == (32 * MIB, MIB)
    assert children[0].told == 2 and children[0].ended


def test_a_child_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(memory_runtime, "CHILD", "raise SystemExit(1)")
    monkeypatch.setattr(memory_runtime, "free_bytes", lambda _: 0)
    with pytest.raises(RuntimeError, match="ended without a word"):
        memory_runtime.measure_runtime(CUDA)


def test_a_graph_is_what_it_takes_of_the_device(monkeypatch):
    events = []
    free, reserved = iter((5000, 4000)), iter((100, 600))

    class Context:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            events.append("in")

        def __exit__(self, *_):
            events.append("out")

    for name, answer in {"Stream": Context, "stream": Context, "graph": Context, "synchronize": lambda _: None,
                         "memory_reserved": lambda _: next(reserved),
                         "CUDAGraph": lambda: SimpleNamespace(replay=lambda: events.append("replay"))}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(memory_runtime, "free_bytes", lambda _: next(free))
    monkeypatch.setattr(memory_runtime, "release", lambda _: None)
    found = memory_runtime.measure_graph(lambda: events.append("step"), CUDA)
    assert found == {"graph_bytes": 1000, "graph_pool_bytes": 500}
    assert events == ["in", "step", "step", "step", "out", "in", "step", "out", "replay"]


def test_the_suite_files_them(tmp_path, monkeypatch):
    tiny = archlab.load("gemma-3-270m", {"n_layers": 6})
    monkeypatch.setattr(memory_peaks, "tasks", lambda quick: [Task(tiny, archlab.Workload(1, n, 8)) for n in (8, 1)])
    monkeypatch.setattr(memory_peaks, "measure_peak", lambda *_: {"status": "ok", "tracked_bytes": 1})
    monkeypatch.setattr(memory_runtime, "measure_runtime", lambda _: {"status": "ok", "context_bytes": 2})
    passes = []
    monkeypatch.setattr(
        memory_runtime, "measure_graph", lambda step, _: passes.extend([step(), step()]) or {"graph_bytes": 3}
    )
    run = suite.Suite(tmp_path, CPU, "fp32", True, float("inf"), lambda line: None)
    suite._steps(run)
    suite._steps(run)
    assert [r["context_bytes"] for r in read_records(tmp_path / "memory_runtime.jsonl")] == [2]
    assert [r["tracked_bytes"] for r in read_records(tmp_path / "memory_peaks.jsonl")] == [1, 1]
    assert [r["graph_bytes"] for r in read_records(tmp_path / "memory_graphs.jsonl")] == [3] and len(passes) == 2
    assert len(run.outcome.kept) == 4
