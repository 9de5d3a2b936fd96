"""`.total` against a count over explicit masks: what a program that skipped every masked pair would multiply."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import spans, specs

import archlab
from archlab.nn.build import build
from archlab.nn.cache import NoCache
from archlab.nn.step import Sight, Step
from archlab.spec import ModelSpec
from archlab.workload import Workload


def pairs(new: int, context: int, window: int | None) -> int:
    """(token, key) pairs, one by one."""
    reach = context if window is None else window
    return sum(i - reach < j <= i for i in range(context - new, context) for j in range(context))


def counted(spec: ModelSpec, work: Workload) -> int:
    """FLOPs from the sizes of the built tensors, and from masks."""
    model = build(spec, device="meta")
    tokens, total = work.batch * work.new, 0
    for layer, kind in zip(model.layers, spec.kinds(), strict=True):
        matrices = [p for p in layer.parameters() if p.dim() > 1]
        n_heads, head_dim, _ = layer.attention.q.shape
        window = (spec.data.get(kind) or {}).get("window")
        total += 2 * tokens * sum(p.numel() for p in matrices)
        total += 2 * 2 * work.batch * n_heads * head_dim * pairs(work.new, work.context, window)
    return total + 2 * work.batch * work.logit_rows * model.head.table.numel()


@settings(deadline=None, max_examples=60)
@given(spec=specs(), span=spans(), batch=st.integers(1, 3), logits=st.sampled_from(["all", "last"]))
def test_total_flops_by_brute_force(spec, span, batch, logits):
    work = Workload(batch, *span, logits=logits)
    assert archlab.flops(spec, work).total == counted(spec, work)


@settings(deadline=None, max_examples=60)
@given(span=spans(40), window=st.none() | st.integers(1, 45))
def test_the_module_masks_what_the_formula_leaves_out(span, window):
    past = NoCache()
    past.position = span[1] - span[0]
    mask = Step(span[0], past, torch.device("cpu"), torch.float32).mask(Sight(window=window))
    assert int(mask.sum()) == pairs(*span, window)
