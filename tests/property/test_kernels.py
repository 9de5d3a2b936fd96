"""Kernels are the ledger's rows and nothing else; laws make seconds of them, for one model and for a million."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.algebra import column, smooth_maximum
from archlab.analyzers.flops import flops
from archlab.analyzers.kernels import Attention, Linear, Vector, kernels, op_bytes
from archlab.analyzers.latency import bound, predicted
from archlab.assemble import resolve
from archlab.calibration import Laws, LinearLaw, ProductLaw, StepLaw, SumLaw
from archlab.hardware import load_hardware
from archlab.ledger import ledger
from archlab.precision import load_precision
from archlab.schema import override

FEW = (
    "gemma-2b", "gemma-2-9b", "gemma-3-4b", "gemma-3-27b-text", "gemma-3n-e2b", "gemma-4-26b-a4b", "gemma-4-e2b",
    "recurrentgemma-2b", "paligemma-3b-224", "t5gemma-2b-2b", "t5gemma-2-270m-270m", "embeddinggemma-300m", "gpt2-xl",
)  # fmt: skip
ALL = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in archlab.models()]
BF16 = load_precision("bf16")

SUM = SumLaw(launch_s=4e-6, bandwidth_bytes_per_s=3e12, operations_per_s=4e14, results_per_s=9e12)
LAWS = Laws(
    linear=LinearLaw(
        few_rows=8,
        few=dataclasses.replace(SUM, launch_s=5e-6),
        many=ProductLaw(launch_s=6e-6, bandwidth_bytes_per_s=4e12, flops_per_s=7e14, half_rows=20.0, half_inputs=90.0),
    ),
    attention={
        "step": dataclasses.replace(SUM, operations_per_s=None),
        "causal": SUM,
        "windowed": dataclasses.replace(SUM, operations_per_s=2e14),
        "causal_capped": dataclasses.replace(SUM, operations_per_s=3e14),
    },
    vector=SumLaw(launch_s=2e-6, bandwidth_bytes_per_s=2e12, operations_per_s=None),
    step=StepLaw(linear=1.1, step_attention=1.2, attention=0.9, seconds=3e-5),
)


def works(spec):
    """Prefill, and where the model decodes a step and a chunk; pictures, sources and prefixes where it takes them."""
    tokens = 1100 if spec.vision is not None and not spec.vision.counted else 520
    if spec.vision is not None and spec.vision.tokens is not None and not spec.vision.counted:
        tokens = max(tokens, spec.vision.tokens + 4)
    whole = archlab.Workload(
        2, new=tokens, context=tokens, logits="last", source=tokens if spec.encoder else 0,
        images=int(spec.vision is not None and not spec.vision.counted), prefix=tokens if spec.has_prefix else 0,
    )  # fmt: skip
    chunk = dataclasses.replace(whole.decode(), new=16)
    return [whole, whole.decode(), chunk] if spec.decodes else [whole]


@pytest.mark.parametrize("name", ALL)
def test_kernels_do_the_rows_work_and_read_the_rows_bytes(name):
    spec = archlab.load(name)
    for work in works(spec):
        rows = ledger(spec, work)
        found = kernels(rows, BF16)
        ops = [(entry, op) for entry in rows.entries for op in entry.rows.ops]
        counted = flops(spec, work)
        assert sum(kernel.flops * kernel.count for kernel in found) == counted.total
        assert sum(kernel.stored_bytes * kernel.count for kernel in found) == pytest.approx(
            sum(op_bytes(rows, entry, op, BF16) * entry.count for entry, op in ops), rel=1e-12
        )
        vectors = sum(k.operations * k.count for k in found if isinstance(k, Vector))
        assert vectors <= counted.vector + counted.total  # softmax and cap are attention's


@pytest.mark.parametrize("name", ALL)
def test_a_products_sizes_are_its_flops(name):
    spec = archlab.load(name)
    for work in works(spec):
        for kernel in kernels(ledger(spec, work), BF16):
            if isinstance(kernel, Linear):
                assert 2 * kernel.batch * kernel.m * kernel.n * kernel.k == pytest.approx(kernel.flops, rel=1e-12)
            if isinstance(kernel, Attention):
                heads = kernel.batch * kernel.kv_heads * kernel.groups
                assert 4 * heads * kernel.head_dim * kernel.pairs == kernel.flops


def test_a_layer_of_gemma_2_9b_is_four_products_with_two_packed():
    """q, k and v: (16 + 2 x 8) x 256 outputs; gate and up: 2 x 14336. And six elementwise kernels: four norms,
    what turns heads and writes them, the gate.
    """
    spec = archlab.load("gemma-2-9b")
    found = kernels(ledger(spec, archlab.Workload(new=1, context=2048)), BF16)
    shapes = {(k.n, k.k): k.count for k in found if isinstance(k, Linear) and k.part == "mlp"}
    assert shapes == {(28672, 3584): 21, (3584, 14336): 21}
    shapes = {(k.n, k.k) for k in found if isinstance(k, Linear) and k.part == "attention"}
    assert shapes == {(8192, 3584), (3584, 4096)}
    assert sum(k.count for k in found if isinstance(k, Linear)) == 4 * 42 + 1
    assert sum(k.count for k in found if isinstance(k, Vector)) == 6 * 42 + 1 + 1 + 1  # embedding, last norm, cap


def test_an_attention_says_what_it_is():
    spec = archlab.load("gemma-2-9b")
    local, whole = (
        k for k in kernels(ledger(spec, archlab.Workload(new=8192, logits="last")), BF16) if isinstance(k, Attention)
    )
    assert (local.window, local.cut, local.kinds) == (4096, True, ("windowed",))
    assert (whole.window, whole.cut, whole.kinds) == (None, False, ("causal",))
    for kernel in (local, whole):
        assert (kernel.kv_heads, kernel.groups, kernel.head_dim, kernel.capped) == (8, 2, 256, True)
    short = kernels(ledger(spec, archlab.Workload(new=4096)), BF16)
    assert {k.kinds for k in short if isinstance(k, Attention)} == {("causal",)}
    gemma_3 = kernels(ledger(archlab.load("gemma-3-4b-text"), archlab.Workload(new=1, context=4096)), BF16)
    assert {(k.kinds, k.capped) for k in gemma_3 if isinstance(k, Attention)} == {(("step",), False)}


def test_experts_are_as_many_products_as_tokens_reach():
    """26B: 8 of 128 experts of three matrices, not packed; one row each of one token, 8 x 4096 / 128 of many."""
    spec = archlab.load("gemma-4-26b-a4b")
    for work, batch, rows in ((archlab.Workload(new=1, context=64), 8, 1), (archlab.Workload(new=4096), 128, 256)):
        experts = [k for k in kernels(ledger(spec, work), BF16) if k.part == "moe" and isinstance(k, Linear)]
        router, *of_layer = experts[:4]  # of the local layers; the global ones' follow
        assert [(k.n, k.k) for k in (router, *of_layer)] == [(128, 2816), (704, 2816), (704, 2816), (2816, 704)]
        assert [(k.batch, k.m) for k in of_layer] == [(pytest.approx(batch), pytest.approx(rows))] * 3


def test_an_encoder_rests_after_the_first_step():
    spec = archlab.load("t5gemma-2b-2b")
    first = archlab.Workload(new=8, context=8, source=32)
    cross = [k for k in kernels(ledger(spec, first), BF16) if k.part == "cross_attention" and isinstance(k, Linear)]
    later = [
        k for k in kernels(ledger(spec, first.decode()), BF16) if k.part == "cross_attention" and isinstance(k, Linear)
    ]
    assert sum(k.count for k in cross) == 26 * 3 and sum(k.count for k in later) == 26 * 2  # keys and values are kept


shapes = st.fixed_dictionaries({
    "d_model": st.integers(1, 8192),
    "n_layers": st.integers(1, 100),
    "attention.n_kv_heads": st.sampled_from([1, 2, 4, 8, 16]),
    "attention.head_dim": st.sampled_from([2, 64, 128, 256]),
    "local.window": st.integers(1, 10_000),
    "mlp.d_ff": st.integers(1, 40_000),
})  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(shapes, st.integers(1, 20_000), st.integers(1, 200)), min_size=1, max_size=4))
def test_a_column_is_predicted_as_its_scalars(points):
    """Contexts of 1 among them, where a prefill is a step; batches above and below what few rows are."""
    base = archlab.load("gemma-2-9b")
    linked = {key: column([shape[key] for shape, _, _ in points]) for key in points[0][0]}
    many = resolve(override(dict(base.data), linked))
    whole = archlab.Workload(
        column([batch for *_, batch in points]), context=column([context for _, context, _ in points]), logits="last"
    )
    for step in (lambda work: work, lambda work: work.decode()):
        found = predicted(kernels(ledger(many, step(whole)), BF16), LAWS)
        for i, (shape, context, batch) in enumerate(points):
            one = step(archlab.Workload(batch, new=context, logits="last"))
            expected = predicted(kernels(ledger(archlab.load("gemma-2-9b", shape), one), BF16), LAWS)
            assert found.keys() == expected.keys()
            for part, seconds in expected.items():
                assert float(np.broadcast_to(found[part], len(points))[i]) == pytest.approx(seconds, rel=1e-12)


# ---------------------------------------------------------------- laws


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3))
def test_a_smooth_maximum_is_the_larger_or_a_little_more(a, b):
    found = smooth_maximum(a, b)
    assert max(a, b) * (1 - 1e-12) <= found <= 2**0.25 * max(a, b) * (1 + 1e-12)
    assert float(smooth_maximum(np.array([a]), np.array([b]))[0]) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("name", FEW)
def test_laws_of_a_data_sheets_peaks_are_no_faster_than_the_bound(name):
    """Each kernel at the peaks, launched for nothing: activations are read too, and nothing overlaps."""
    spec, device = archlab.load(name), load_hardware("h200-sxm")
    peak, bandwidth = device.flops_per_s("bf16"), device.bandwidth_bytes_per_s
    at_peak = SumLaw(launch_s=0, bandwidth_bytes_per_s=bandwidth, operations_per_s=peak)
    products = ProductLaw(launch_s=0, bandwidth_bytes_per_s=bandwidth, flops_per_s=peak, half_rows=0, half_inputs=0)
    laws = Laws(
        linear=LinearLaw(few_rows=1, few=at_peak, many=products), vector=at_peak,
        attention={"step": at_peak, "causal": at_peak},
    )  # fmt: skip
    for work in works(spec):
        rows = ledger(spec, work)
        assert sum(predicted(kernels(rows, BF16), laws).values()) >= bound(rows, device, BF16).seconds * (1 - 1e-12)


@pytest.mark.parametrize(
    ("name", "context", "milliseconds"), [("gemma-2-9b", 2048, 6.11), ("gemma-3-12b-text", 2048, 7.60)]
)
def test_published_efficiency_is_near_the_sum_of_published_kernels(name, context, milliseconds):
    """A decode step on an H200 as the sum of NVIDIA's own kernels, each at the speed in aiconfigurator's tables."""
    found = archlab.latency(archlab.load(name), archlab.Workload(new=1, context=context, logits="last"), "h200-sxm")
    assert found.at_published_efficiency == pytest.approx(milliseconds / 1e3, rel=0.1)
    assert found.at_published_efficiency > found.bound_seconds
    assert any("published" in sentence for sentence in found.assumptions)


@pytest.mark.parametrize(("device", "precision"), [("rtx-4090", "bf16"), ("h200-sxm", "fp8"), ("m4-max-128", "fp16")])
def test_nothing_is_published_of_other_devices_and_formats(device, precision):
    found = archlab.latency(archlab.load("gemma-2b"), archlab.Workload(new=1, context=64), device, precision)
    assert found.at_published_efficiency is None and found.source == "bound"
    assert not any("published" in sentence for sentence in found.assumptions)
