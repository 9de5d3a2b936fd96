"""A tiny model timed on the CPU: the work is the work claimed, and what cannot be timed is said in a sentence."""

import getpass
import json
import math
import socket
from pathlib import Path

import pytest
import torch

import archlab
from archlab.errors import ArchlabError
from archlab.measure import bench, capacity, single
from archlab.measure.bench import Bench, Trial
from archlab.measure.capacity import need
from archlab.measure.devices import available_bytes, find_device, find_dtype
from archlab.measure.single import run

SECONDS = 0.05
WRITTEN = 23
"""The last of 24 positions, which prefill and step write each time."""


@pytest.fixture(scope="module")
def built(tiny, rates):
    with Bench(tiny, "cpu", "fp32", seed=1, rooflines=rates) as made:
        yield made


@pytest.fixture(scope="module")
def reference(tiny, rates):
    with Bench(tiny, "cpu", "fp32", seed=1, rooflines=rates, backend="reference") as made:
        yield made


def test_one_build_serves_both_phases(built, prefill, decode):
    for work, phase in ((prefill, "prefill"), (decode, "decode")):
        record = built.run(work, SECONDS)
        assert (record.status, record.reason, record.phase) == ("ok", "", phase)
        assert (record.batch, record.new, record.context) == (2, work.new, 24)
        assert record.n == len(record.samples) >= bench.AT_LEAST["cpu"] and record.repetitions == 1
        assert 0 < record.p5_s <= record.median_s <= record.p95_s
        assert record.ci_low_s <= record.median_s <= record.ci_high_s
        assert record.warmup_s > 0 and math.isfinite(record.drift)


def test_run_measures_the_device_too_and_says_where_a_number_comes_from(tiny, decode, monkeypatch):
    monkeypatch.setattr("archlab.measure.rooflines.BUFFERS", {"cpu": {"quick": (4,)}})
    monkeypatch.setattr("archlab.measure.rooflines.MATRICES", {"cpu": {"quick": (64,)}})
    monkeypatch.setattr("archlab.measure.rooflines.SECONDS", {"quick": 0.01})
    record = run(tiny, decode, device="cpu", seconds=SECONDS)
    assert (record.dtype, record.backend, record.status, record.seed) == ("fp32", "fast", "ok", 0)
    assert (record.source, record.sampled, record.runs) == ("measured", "", "TorchScript trace")
    assert math.isfinite(record.group_drift) and record.state["before"] and record.state["after"]
    assert record.bound_s > 0 and record.bound in ("memory", "compute")
    assert {"copy_bytes_per_s", "read_bytes_per_s", "matmul_flops_per_s"} <= set(record.rooflines)
    assert {"utc", "archlab", "code_version", "git", "torch", "numpy", "cpu", "threads"} <= set(record.provenance)
    line = json.dumps(record.as_dict(), allow_nan=False)
    private = (str(Path.home()), str(Path.cwd()), socket.gethostname(), f'"{getpass.getuser()}"')
    assert not [word for word in private if len(word) > 1 and word in line]


def test_bound_is_the_roofline_at_the_given_rates(built, tiny, decode, rates):
    record = built.run(decode, SECONDS)
    expected = archlab.latency(tiny, decode, rates.hardware(), "fp32")
    assert (record.bound_s, record.bound) == (expected.bound_seconds, expected.bound)
    assert rates.hardware().status == "measured"


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_repetitions_do_the_same_work(built, reference, prefill, decode, phase):
    """The same logits each time, of fast and reference alike; the cache of exactly `context` slots ends full."""
    work = {"prefill": prefill, "decode": decode}[phase]
    found = {}
    for bench_ in (built, reference):
        trial = Trial(bench_, work)
        trial.warm_up(0.0)
        assert trial.problem == "" and trial.cache.context == 24
        with torch.inference_mode():
            for state in trial.cache.states.values():
                state.buffer[:, WRITTEN % state.buffer.shape[1]].zero_()
            logits = [trial.step().clone() for _ in range(4)]
        assert all(torch.equal(logits[0], other) for other in logits[1:])
        for state in trial.cache.states.values():
            assert (state.buffer[:, WRITTEN % state.buffer.shape[1]] != 0).all(), "it was not written again"
        assert trial.cache_bytes == archlab.kv_cache(built.spec, 24, 2, "fp32").total
        found[bench_.backend] = logits[0]
    if phase == "prefill":  # in a step the rings of the two hold the random tokens in another order
        torch.testing.assert_close(found["fast"], found["reference"], rtol=0, atol=1e-4)
    assert trial.cache.position == 24  # of the reference; a recording has no position


def test_decode_reads_the_cache_that_was_filled(built, decode):
    """Other values in the earlier slots, of global and local layers alike, give other logits; none are zeros."""
    trial = Trial(built, decode)
    trial.warm_up(0.0)
    with torch.inference_mode():
        before = trial.step().clone()
        assert all((state.buffer != 0).all() for state in trial.cache.states.values())
        for state in trial.cache.states.values():
            kept = state.buffer.clone()
            state.buffer[:, 0].neg_()
            assert not torch.equal(trial.step(), before)
            state.buffer.copy_(kept)
        assert torch.equal(trial.step(), before)


def test_a_recurrence_is_set_back_before_it_is_compared(rates):
    """Each repetition takes it further: the recording's first logits must be the pass's all the same."""
    keys = {"d_model": 32, "n_layers": 3, "vocab_size": 64, "attention.n_heads": 2, "attention.n_kv_heads": 1,
            "attention.head_dim": 8, "mlp.d_ff": 48, "recurrent.width": 32, "recurrent.n_heads": 2}  # fmt: skip
    spec = archlab.load("recurrentgemma-2b", keys)
    with Bench(spec, "cpu", "fp32", rooflines=rates) as made:
        record = made.run(archlab.Workload(1, 1, 16), SECONDS)
    assert (record.status, record.reason, record.reason_backend) == ("ok", "", "RGLRU and MLP as in the reference")


def test_logits_that_are_not_finite_fail(tiny, rates, decode):
    with Bench(tiny, "cpu", "fp32", rooflines=rates) as broken:
        broken.model.embedding.table.data.fill_(float("inf"))
        record = broken.run(decode, SECONDS)
    assert record.status == "failed" and "not finite" in record.reason and record.median_s is None


def test_running_out_of_memory_is_a_record(tiny, rates, decode, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")

    for backend in ("fast", "reference"):
        with Bench(tiny, "cpu", "fp32", rooflines=rates, backend=backend) as made:
            made.model.forward = exhausted
            record = made.run(decode, SECONDS)
        assert (record.status, record.n, record.samples, record.backend) == ("failed", 0, (), backend)
        assert record.reason == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    monkeypatch.setattr(bench, "build", exhausted)
    assert run(tiny, decode, "cpu", rooflines=rates).status == "failed"


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (2**30, r"of which 95% may be used: 101\.8 GiB too much$"),
        (48 * 2**30, r": 57\.10 GiB too much; --sampled times 8 and 14 of its 62 layers, which fit$"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_built(rates, monkeypatch, left, said):
    """By how much, and what would fit instead, where that does."""
    monkeypatch.setattr(bench, "build", lambda *_, **__: pytest.fail("built all the same"))
    monkeypatch.setattr(single, "measure_rooflines", lambda *_: pytest.fail("the rates were measured first"))
    monkeypatch.setattr(capacity, "available_bytes", lambda device: left)
    spec = archlab.load("gemma-3-27b-text")
    needs = r"gemma-3-27b-text .* needs 1\d\d\.\d GiB \(weights .*, cache .*has \d+\.\d+ GiB .*"
    with pytest.raises(ArchlabError, match=needs + said):
        run(spec, archlab.Workload(new=1, context=8192), "cpu")


def test_the_cache_is_asked_for_apart_from_weights_that_are_there(built, monkeypatch):
    work = archlab.Workload(batch=64, new=1, context=4096)
    needed = need(built.spec, work, "fp32", built.device)
    monkeypatch.setattr(capacity, "available_bytes", lambda device: (needed.total - needed.weights) * 1.1)
    built.trial(work)
    monkeypatch.setattr(capacity, "available_bytes", lambda device: needed.cache * 0.9)
    with pytest.raises(ArchlabError, match="cache") as refusal:
        built.trial(work)
    assert "weights" not in str(refusal.value)


def test_needs_are_those_of_the_built_model(built, prefill):
    needed = need(built.spec, prefill, "fp32", built.device)
    assert needed.weights == sum(p.nbytes for p in built.model.parameters())
    assert needed.cache == built.model.init_cache(2, 24).nbytes
    assert needed.workspace >= 2 * 24 * 64 * 4 and (available_bytes(built.device) or 1) > 0


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (archlab.Workload(new=4, context=8), "must be 1 .* or context=8"),
        (archlab.Workload(new=8, train=True), "train=True"),
    ],
)
def test_other_workloads_are_refused(tiny, work, words):
    with pytest.raises(ArchlabError, match=words):
        run(tiny, work, "cpu")


def test_devices_and_formats_are_named_right_or_refused():
    cpu = find_device("cpu")
    assert (find_dtype(None, cpu), find_dtype(torch.bfloat16, cpu)) == ("fp32", "bf16")
    assert find_dtype("fp16", torch.device("cuda", 0)) == "fp16"
    with pytest.raises(ArchlabError, match="fp16 is not timed on a CPU"):
        find_dtype("fp16", cpu)
    assert find_dtype(None, torch.device("cuda")) == "bf16"
    for device in ("gpu", "mps", "cuda:99"):
        with pytest.raises(ArchlabError, match=f"device='{device}'"):
            find_device(device)
    with pytest.raises(ArchlabError, match=r"dtype='bf61'.*did you mean 'bf16'"):
        find_dtype("bf61", cpu)
