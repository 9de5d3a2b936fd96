"""What the fast way covers, said of a spec and a workload before anything is built."""

from __future__ import annotations

from collections.abc import Iterator

from archlab import blocks
from archlab.layers import Block, Stack
from archlab.nn.build import fast_module
from archlab.spec import ModelSpec
from archlab.workload import Workload


def obstacle(spec: ModelSpec, work: Workload) -> str:
    """Why a pass would leave the fast way, as the end of a sentence; '' where it would not."""
    return next(_obstacles(spec, work), "")


def _obstacles(spec: ModelSpec, work: Workload) -> Iterator[str]:
    if work.train:
        yield "a training step has a backward pass"
    if work.new_images:
        yield "images among the new tokens need a mask"
    if work.new_prefix:
        yield "a prefix whose tokens all see each other needs a mask"
    if 1 < work.new < work.context:
        yield "new tokens that follow others, more than one at once, need a mask"
    for stack in _running(spec, work):
        for path, block, _ in stack.blocks():
            why = _of_block(block)
            if why:
                yield f"{stack.prefix}{path} {why}"


def _running(spec: ModelSpec, work: Workload) -> Iterator[Stack]:
    """The stacks that have something to do."""
    if spec.encoder is not None and work.new_source:
        yield spec.encoder
    yield spec.decoder


def _of_block(block: Block) -> str:
    if isinstance(block, blocks.CrossAttention):
        return "attends to a source's keys and values"
    if not isinstance(block, blocks.Attention) or fast_module(block):
        return ""
    if not block.causal:
        return "is bidirectional"
    if block.source != "none":
        return "attends to a source's keys and values too"
    return "adds biases to queries, keys and values" if block.bias == "all" else "is of a kind that it does not know"


def as_reference(spec: ModelSpec) -> tuple[str, ...]:
    """Sorts of blocks in the decoder's layers that multiply matrices as the reference does, within the fast way too."""
    found: dict[str, None] = {}
    for layer in spec.decoder.layers:
        for _, block in layer.blocks():
            if any(op.kind == "matmul" for op in block.rows.ops) and fast_module(block) is None:
                found[type(block).__name__] = None
    return tuple(found)
