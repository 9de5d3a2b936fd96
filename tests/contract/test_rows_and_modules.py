"""Rows and modules, block by block on the meta device. A block that is registered, and in a preset, is tested here."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specs import DISTINCT, ONE_A_FAMILY, PRESETS, shrunk, spans, specs, telling
from torch.utils.flop_counter import FlopCounterMode

import archlab
from archlab.ledger import Entry, ledger
from archlab.nn.audit import Run, parts_of, parts_of_rows, traced_flops, traced_macs
from archlab.nn.build import MODULES, build
from archlab.nn.declare import ABSENT, declared
from archlab.rows import Weight
from archlab.spec import ModelSpec
from archlab.workload import Workload

PHASES = {"prefill": (48, 48), "chunk": (5, 31), "wide chunk": (11, 48), "decode": (1, 48), "first token": (1, 1)}


def entry_of(spec: ModelSpec, path: str, work: Workload | None = None) -> Entry:
    """The ledger's entry of the module at a path: encoder.layers.3.attention -> encoder.attention, with layer 3."""
    before, inside, after = path.rpartition("layers.") if ".layers." in f".{path}" else ("", "", path)
    index, _, name = after.partition(".") if inside else ("", "", after)
    entries = [e for e in ledger(spec, work).entries if e.path == before + name]
    return next(e for e in entries if not inside or int(index) in e.indices)


def stands(weight: Weight) -> bool:
    return weight.use not in ABSENT


@pytest.mark.parametrize("preset", PRESETS)
def test_names_and_shapes_are_the_rows(preset):
    """At full size: every parameter is a row, every row is a parameter, of the row's shape."""
    spec = archlab.load(preset)
    model = build(spec, device="meta")
    expected = {}
    for path in declared(model):
        entry = entry_of(spec, path)
        rows = [w for w in entry.rows.weights.values() if stands(w)]
        expected |= {f"{path}.{w.name}": tuple(entry.sizes[a] for a in w.axes) for w in rows}
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == expected
    counted = sum(e.numel(w) for e in ledger(spec).entries for w in e.rows.weights.values() if w.use == "counted")
    assert sum(p.numel() for p in model.parameters()) == archlab.params(spec).total - counted
    assert parts_of(model) == parts_of_rows(spec)


def test_every_registered_block_stands_in_a_preset():
    seen = {type(m.block) for p in DISTINCT for m in declared(build(shrunk(p), device="meta")).values()}
    assert seen == set(MODULES)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("preset", ONE_A_FAMILY)
def test_each_block_does_the_flops_of_its_rows(preset, phase):
    """FlopCounterMode's count of each module against the dense FLOPs of its entry."""
    spec = shrunk(preset)
    work = telling(spec, 2, *PHASES[phase])
    if not spec.decodes and work.new != work.context:
        pytest.skip("reads whole sequences")
    run = Run(build(spec, device="meta"), work)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(*run.inputs.values())
    found = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    for path in declared(run.model):
        entry = entry_of(spec, path, work)
        assert found.get(f"Run.model.{path}", 0) == sum(op.flops(entry.sizes, dense=True) for op in entry.rows.ops), (
            path
        )
    assert found["Global"] == archlab.flops(spec, work).dense


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("preset", ONE_A_FAMILY)
def test_fvcore_counts_the_dense_flops(preset, phase):
    spec = shrunk(preset)
    work = telling(spec, 3, *PHASES[phase], logits="last" if "chunk" in phase else "all")
    if not spec.decodes and work.new != work.context:
        pytest.skip("reads whole sequences")
    macs, uncounted = traced_macs(build(spec, device="meta"), work)
    assert 2 * macs == archlab.flops(spec, work).dense
    assert not uncounted


@pytest.mark.parametrize(("new", "context"), [(8192, 8192), (512, 6000), (1, 32768)])
def test_full_size_on_meta(new, context):
    spec = archlab.load("gemma-3-1b")
    model, work = build(spec, device="meta", dtype=torch.bfloat16), Workload(new=new, context=context)
    macs, uncounted = traced_macs(model, work)
    assert 2 * macs == traced_flops(model, work) == archlab.flops(spec, work).dense
    assert not uncounted


def agrees(spec: ModelSpec, work: Workload) -> None:
    """Parameters, parts, cache bytes and dense FLOPs of a spec and of its module."""
    model = build(spec, device="meta", dtype=torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == archlab.params(spec).total
    assert parts_of(model) == archlab.params(spec).by_part
    held = archlab.kv_cache(spec, work.context, work.batch, "bf16", source=work.source).total
    assert model.init_cache(work.batch, work.context, source=work.source).nbytes == held
    assert traced_flops(model, work) == archlab.flops(spec, work).dense


@settings(deadline=None, max_examples=60)
@given(spec=specs(), span=spans(), batch=st.integers(1, 3), logits=st.sampled_from(["all", "last"]))
def test_random_specs_agree_with_their_ledger(spec, span, batch, logits):
    agrees(spec, Workload(batch, *span, logits=logits))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(spec=specs(everything=True), span=spans(), batch=st.integers(1, 3), logits=st.sampled_from(["all", "last"]))
def test_random_specs_of_every_block_agree_with_their_ledger(spec, span, batch, logits):
    agrees(spec, telling(spec, batch, *span, logits=logits))


@pytest.mark.slow
@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(spec=specs(everything=True), span=spans(), batch=st.integers(1, 3), logits=st.sampled_from(["all", "last"]))
def test_many_random_specs_of_every_block_agree_with_their_ledger(spec, span, batch, logits):
    agrees(spec, telling(spec, batch, *span, logits=logits))


def runs(spec: ModelSpec, new: int, context: int) -> None:
    """Finite on the CPU, and the same with a cache as without."""
    model = build(spec)
    ids = torch.arange(context)[None] * 7 % spec.vocab_size
    chunks = ids.split([n for n in (context - new, new) if n], 1)
    if spec.encoder is None:
        full, cache = model(ids), model.init_cache(1, context)
        parts = [model(chunk, cache) for chunk in chunks]
    else:
        source = torch.arange(5)[None] * 3 % spec.vocab_size
        full, cache = model(source, decoder_ids=ids), model.init_cache(1, context, source=5)
        first = [model(source, cache, decoder_ids=chunks[0])]
        parts = first + [model(None, cache, decoder_ids=chunk) for chunk in chunks[1:]]
    assert full.isfinite().all() and full.shape == (1, context, spec.vocab_size)
    torch.testing.assert_close(torch.cat(parts, 1), full, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(spec=specs(), span=spans())
@torch.no_grad()
def test_random_specs_run(spec, span):
    runs(spec, *span)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(spec=specs(everything=True), span=spans())
@torch.no_grad()
def test_random_specs_of_every_block_run(spec, span):
    runs(spec, *span)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(spec=specs(), length=st.integers(1, 12), batch=st.integers(1, 2))
def test_a_training_step_is_three_times_the_dense_forward(spec, length, batch):
    """Both operands of every product need gradients, the lookup has no product, and the mask saves nothing."""
    work = Workload(batch, new=length, train=True)
    assert traced_flops(build(spec), work) == archlab.flops(spec, work).dense


def test_columns_are_refused():
    spec = archlab.load("gemma-2b", {"mlp.d_ff": archlab.algebra.column([8, 16])})
    with pytest.raises(archlab.errors.ArchlabError, match="only a model of plain numbers can be built"):
        build(spec)
