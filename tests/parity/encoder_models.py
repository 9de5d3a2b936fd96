"""What the tests of models with an encoder share: random weights, chunks, and FLOPs counted another way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import archlab
from archlab.layers import Stack
from archlab.ledger import Entry, ledger
from archlab.nn.audit import Run, traced_macs
from archlab.nn.build import build
from archlab.nn.declare import declared
from archlab.nn.decoder import Decoder
from archlab.spec import ModelSpec
from archlab.workload import Workload


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Every parameter drawn anew, norms and learned vectors included; activations stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(0.4 * drawn if parameter.dim() == 1 else 1.3 * drawn * parameter[0].numel() ** -0.5)


def ids_of(batch: int, length: int, vocab: int, seed: int = 0) -> Tensor:
    """From 1: token 0 is padding in transformers."""
    return torch.randint(1, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def cached(model: Decoder, source: Tensor, ids: Tensor, chunks: list[int], spare: int = 0, **given: Tensor) -> Tensor:
    """Logits chunk by chunk: the source with the first, nothing of it with the others."""
    cache = model.init_cache(len(ids), ids.shape[1] + spare, source=source.shape[1] + spare)
    first, *rest = ids.split(chunks, 1)
    logits = [model(source, cache, decoder_ids=first, **given)]
    return torch.cat(logits + [model(None, cache, decoder_ids=chunk) for chunk in rest], 1)


# ---------------------------------------------------------------- FLOPs, traced


def entry_of(spec: ModelSpec, path: str, work: Workload) -> Entry:
    """The ledger's entry of a module: encoder.layers.3.mlp -> encoder.mlp in layer 3."""
    words = path.split(".")
    at = words.index("layers") if "layers" in words else None
    name = path if at is None else ".".join(words[:at] + words[at + 2 :])
    found = [e for e in ledger(spec, work).entries if e.path == name]
    return next(e for e in found if at is None or int(words[at + 1]) in e.indices)


def check_traced(spec: ModelSpec, work: Workload) -> dict[str, int]:
    """Dense FLOPs, block by block and in all, by torch's counter and by fvcore. Returns the blocks' counts.

    Training and towers by the first alone: fvcore sees no backward pass, and takes LayerNorm for multiply-adds.
    """
    run = Run(build(spec, device="meta"), work)
    with torch.set_grad_enabled(work.train), FlopCounterMode(display=False) as counter:
        made = run(*run.inputs.values())
        if work.train:
            made.sum().backward()
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    dense = archlab.flops(spec, work).dense
    assert counts["Global"] == dense
    if work.train:
        return counts
    for path in declared(run.model):
        entry = entry_of(spec, path, work)
        rows = sum(op.flops(entry.sizes, dense=True) for op in entry.rows.ops)
        assert counts.get(f"Run.model.{path}", 0) == rows, path
    if work.new_images:
        return counts
    macs, uncounted = traced_macs(build(spec, device="meta"), work)
    assert 2 * macs == dense
    assert not uncounted
    return counts


# ---------------------------------------------------------------- FLOPs, pair by pair


def pairs(new: int, context: int, behind: int | None, ahead: int | None) -> int:
    """(token, key) pairs: `behind` counts the token itself; None sees all. Nothing lies beyond the context."""
    behind, ahead = (context if side is None else side for side in (behind, ahead))
    keys = range(context)
    return sum(i - behind < j <= i + ahead for i in range(context - new, context) for j in keys)


def counted(spec: ModelSpec, work: Workload) -> int:
    """Forward FLOPs from the sizes of the built tensors and explicit masks. Towers apart."""
    model = build(spec, device="meta")
    total = _layers(spec.decoder, model, work.batch, work.new, work.context, work.source, work.new_source)
    if hasattr(model, "head"):
        total += 2 * work.batch * work.logit_rows * model.head.table.numel()
    if spec.encoder is not None and work.new_source:
        total += _layers(spec.encoder, model.encoder, work.batch, work.source, work.source, 0, 0)
    return total


def _layers(stack: Stack, model: nn.Module, batch: int, new: int, context: int, source: int, new_source: int) -> int:
    """FLOPs of the layers; the keys and values of a source are made where it is new, and seen by every token."""
    total = 0
    for spec, layer in zip(stack.in_order(), model.layers, strict=True):
        told = dict(spec.blocks())
        attention = told["attention"]
        mixers = [(layer.attention, pairs(new, context, attention.window, _ahead(attention)))]
        matrices = [p for name, p in layer.named_parameters() if p.dim() > 1]
        total += 2 * batch * new * sum(p.numel() for p in matrices)
        if attention.source == "merged":
            mixers.append((layer.attention, new * source))
            total += 2 * batch * new_source * (layer.attention.k.numel() + layer.attention.v.numel())
        if "cross_attention" in told:
            mixers.append((layer.cross_attention, new * source))
            total += 2 * batch * (new_source - new) * 2 * layer.cross_attention.k.numel()
        total += sum(2 * 2 * batch * m.q.shape[0] * m.q.shape[1] * seen for m, seen in mixers)
    return total


def _ahead(attention: archlab.blocks.Attention) -> int | None:
    if attention.causal:
        return 0
    return attention.window - 1 if attention.window is not None and attention.ahead is None else attention.ahead
