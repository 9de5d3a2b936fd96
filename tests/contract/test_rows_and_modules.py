"""Rows and modules, block by block on the meta device. A block that is registered, and in a preset, is tested here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import DISTINCT, PRESETS, shrunk, spans, specs
from torch.utils.flop_counter import FlopCounterMode

import archlab
from archlab.ledger import Entry, ledger
from archlab.nn.audit import Run, parts_of, traced_flops, traced_macs
from archlab.nn.build import MODULES, build
from archlab.nn.declare import declared
from archlab.spec import ModelSpec, Workload

PHASES = {"prefill": (48, 48), "chunk": (5, 31), "wide chunk": (11, 48), "decode": (1, 48), "first token": (1, 1)}


def entry_of(spec: ModelSpec, path: str, work: Workload | None = None) -> Entry:
    """The ledger's entry of the module at a path: layers.3.attention -> attention, in layers of that kind."""
    words = path.split(".")
    layer, name = (int(words[1]), ".".join(words[2:])) if words[0] == "layers" else (None, path)
    kind = "" if layer is None else spec.kinds()[layer]
    return next(e for e in ledger(spec, work).entries if (e.path, e.kind) == (name, kind))


@pytest.mark.parametrize("preset", PRESETS)
def test_names_and_shapes_are_the_rows(preset):
    """At full size: every parameter is a row, every row is a parameter, of the row's shape."""
    spec = archlab.load(preset)
    model = build(spec, device="meta")
    expected = {}
    for path in declared(model):
        entry = entry_of(spec, path)
        expected |= {f"{path}.{w.name}": tuple(entry.sizes[a] for a in w.axes) for w in entry.rows.weights.values()}
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == expected
    assert sum(p.numel() for p in model.parameters()) == archlab.params(spec).total
    assert parts_of(model) == archlab.params(spec).by_part


def test_every_registered_block_stands_in_a_preset():
    seen = {type(m.block) for p in PRESETS for m in declared(build(shrunk(p), device="meta")).values()}
    assert seen == set(MODULES)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("preset", DISTINCT)
def test_each_block_does_the_flops_of_its_rows(preset, phase):
    """FlopCounterMode's count of each module against the dense FLOPs of its entry."""
    spec = shrunk(preset)
    new, context = PHASES[phase]
    work = Workload(2, new=new, context=context)
    run = Run(build(spec, device="meta"), work)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(torch.zeros(2, new, dtype=torch.long, device="meta"))
    found = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    for path in declared(run.model):
        entry = entry_of(spec, path, work)
        assert found.get(f"Run.model.{path}", 0) == sum(op.flops(entry.sizes, dense=True) for op in entry.rows.ops), (
            path
        )
    assert found["Global"] == archlab.flops(spec, work).dense


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("preset", ["gemma-2b", "gemma-7b", "gemma-2-27b", "gemma-3-27b-text", "vaultgemma-1b"])
def test_fvcore_counts_the_dense_flops(preset, phase):
    spec = shrunk(preset)
    new, context = PHASES[phase]
    work = Workload(3, new=new, context=context, logits="last" if "chunk" in phase else "all")
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


@settings(deadline=None, max_examples=60)
@given(spec=specs(), span=spans(), batch=st.integers(1, 3), logits=st.sampled_from(["all", "last"]))
def test_random_specs_agree_with_their_ledger(spec, span, batch, logits):
    model = build(spec, device="meta", dtype=torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == archlab.params(spec).total
    assert parts_of(model) == archlab.params(spec).by_part
    assert model.init_cache(batch, span[1]).nbytes == archlab.kv_cache(spec, span[1], batch, "bf16").total
    work = Workload(batch, *span, logits=logits)
    assert traced_flops(model, work) == archlab.flops(spec, work).dense


@settings(deadline=None, max_examples=25)
@given(spec=specs(), span=spans())
@torch.no_grad()
def test_random_specs_run(spec, span):
    """Finite on the CPU, and the same with a cache as without."""
    model, (new, context) = build(spec), span
    ids = torch.arange(context)[None] * 7 % spec.vocab_size
    full, cache = model(ids), model.init_cache(1, context)
    assert full.isfinite().all() and full.shape == (1, context, spec.vocab_size)
    chunks = ids.split([n for n in (context - new, new) if n], 1)
    torch.testing.assert_close(torch.cat([model(c, cache) for c in chunks], 1), full, rtol=1e-4, atol=1e-4)


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
