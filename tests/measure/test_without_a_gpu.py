"""What only a GPU runs, with torch.cuda's answers made up: the logic around the calls, not the calls."""

from types import SimpleNamespace

import pytest
import torch

import archlab
from archlab.measure import capacity, devices, provenance, suite, timing
from archlab.measure.session import Task

CUDA = torch.device("cuda", 0)


@pytest.fixture
def card(monkeypatch):
    """A GPU of 8 GiB, 6 of them free, another 1 held by torch's allocator without use."""
    properties = SimpleNamespace(name="a card", uuid="ab-12", total_memory=8 * 2**30, multi_processor_count=4)
    answers = {
        "is_available": lambda: True, "device_count": lambda: 1, "get_device_name": lambda _: "a card",
        "get_device_properties": lambda _: properties, "mem_get_info": lambda _: (6 * 2**30, 8 * 2**30),
        "memory_reserved": lambda _: 3 * 2**30, "memory_allocated": lambda _: 2 * 2**30,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)


def test_the_gpu_is_the_default_and_its_memory_what_can_still_be_allocated(card):
    assert devices.find_device() == devices.find_device("cuda") == CUDA
    assert (devices.device_name(CUDA), devices.total_bytes(CUDA)) == ("a card", 8 * 2**30)
    assert devices.available_bytes(CUDA) == 7 * 2**30
    with pytest.raises(archlab.errors.ArchlabError, match="sees 1 CUDA devices"):
        devices.find_device("cuda:1")
    with pytest.raises(
        archlab.errors.ArchlabError, match=r"in bf16 needs 17\.\d\d GiB .*, and a card has 7.00 GiB left"
    ):
        work = archlab.Workload(new=1, context=2048)
        capacity.refuse_unless_fits(archlab.load("gemma-2-9b"), work, "bf16", CUDA)


def test_state_of_the_card_under_both_names_of_the_throttle_field(card, monkeypatch):
    asked = []

    def old_driver(*command, at=None):
        asked.append(command)
        fields = command[2].removeprefix("--query-gpu=").split(",")
        return None if "clocks_event_reasons.active" in fields else ", ".join(f"<{name}>" for name in fields)

    monkeypatch.setattr(provenance, "_output", old_driver)
    state = provenance.gpu_state(CUDA)
    assert state["driver_version"] == "<driver_version>" and state["power.limit"] == "<power.limit>"
    assert state["throttle_reasons"] == "<clocks_throttle_reasons.active>"
    assert [command[:2] for command in asked] == [("nvidia-smi", "--id=GPU-ab-12")] * 2
    monkeypatch.setattr(provenance, "_output", lambda *_, at=None: None)
    assert provenance.gpu_state(CUDA) is None


def test_gpu_samples_are_batches_of_at_least_20_ms(monkeypatch):
    class Event:
        """Each step takes 3 ms on this clock."""

        steps = 0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.at = Event.steps

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return (end.at - self.at) * 3.0

    def step():
        Event.steps += 1

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    sampler = timing.Sampler(step, CUDA)
    sampler.warm_up(0.0)
    sampler.sample(0.0, at_least=4)
    assert sampler.repetitions == 7 and Event.steps == 1 + 4 * 7
    assert sampler.samples == pytest.approx([0.003] * 4)


def test_peaks_stand_beside_weights_and_cache(tiny, tmp_path, decode, monkeypatch):
    allocated = iter((100, 700))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: next(allocated))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 900)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 1024)
    run = suite.Suite(tmp_path, torch.device("cpu"), "fp32", True, float("inf"), print)
    record = suite.peak(run, Task("tiny", tiny, "decode-24", decode))
    assert (record["weights_bytes"], record["peak_allocated_bytes"], record["peak_reserved_bytes"]) == (600, 900, 1024)
    assert record["cache_bytes"] == archlab.kv_cache(tiny, 24, 2, "fp32").total
    assert record["status"] == "ok" and "median_s" not in record and "samples" not in record
