"""The state of the device beside its timings; a GPU's is made up."""

import time

import pytest
import torch

from archlab.measure import state
from archlab.measure.state import Watch, summary, throttled, warnings

CUDA = torch.device("cuda", 0)


def reading(sm="1980 MHz", reasons="0x0000000000000000", power="650.12 W"):
    return {
        "clocks.sm": sm,
        "power.draw": power,
        "temperature.gpu": "61",
        "clocks.mem": "[N/A]",
        "throttle_reasons": reasons,
    }


def test_extremes_over_all_readings():
    found = summary(
        reading("1980 MHz"), [reading("1755 MHz", power="699.90 W"), reading("1800 MHz")], reading("1900 MHz")
    )
    assert (found["clocks.sm"], found["power.draw"]) == ([1755.0, 1980.0], [650.12, 699.9])
    assert found["temperature.gpu"] == [61.0, 61.0] and "clocks.mem" not in found
    assert (found["readings"], found["throttled"], warnings(found)) == (4, [], [])


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ("0x0000000000000000", []),
        ("0x0000000000000001", []),  # idle
        ("0x0000000000000002", []),  # clocks were set
        ("0x0000000000000004", ["power cap"]),
        ("0x0000000000000024", ["power cap", "thermal slowdown by software"]),
        ("0x00000000000000c8", ["hardware slowdown", "thermal slowdown by hardware", "power brake"]),
        ("[N/A]", []),
        (None, []),
    ],
)
def test_throttling_is_told_from_idling(reasons, why):
    assert throttled([reading(), reading(reasons=reasons)]) == why


def test_throttling_during_a_run_is_a_warning():
    found = summary(reading(), [reading(reasons="0x0000000000000004")], reading())
    assert warnings(found) == ["the GPU was throttled while it was timed: power cap"]


def test_a_crowded_cpu_is_a_warning(monkeypatch):
    monkeypatch.setattr(state.os, "cpu_count", lambda: 2)
    for load, said in ((2.4, False), (2.6, True)):
        found = summary({"load_1min": 1.0}, [], {"load_1min": load})
        assert bool(warnings(found)) == said
    assert warnings(found) == ["other programs took part: the load average was 2.6 on 2 CPUs"]
    assert warnings(summary(None, [], {"load_1min": None})) == []


def test_a_gpu_is_read_while_the_watch_is_open(monkeypatch):
    monkeypatch.setattr(state, "EVERY_S", 0.01)
    monkeypatch.setattr(state, "gpu_state", lambda device: reading())
    watch = Watch(CUDA)
    with watch:
        start = time.perf_counter()
        while len(watch.readings) < 3:
            assert time.perf_counter() - start < 20
            time.sleep(0.01)
        assert watch.latest() is watch.readings[-1][1]
    n = len(watch.readings)
    time.sleep(0.05)
    assert len(watch.readings) == n, "it went on after it was closed"
    assert len(watch.during(start, time.perf_counter())) >= 2
    assert watch.during(0.0, start - 1) == []


def test_a_gpu_that_does_not_say_and_a_cpu_have_no_thread(monkeypatch):
    monkeypatch.setattr(state, "gpu_state", lambda device: None)
    with Watch(CUDA) as watch:
        assert watch.latest() is None and watch.readings == []
    with Watch(torch.device("cpu")) as watch:
        assert set(watch.latest()) == {"load_1min"} and len(watch.readings) == 1
