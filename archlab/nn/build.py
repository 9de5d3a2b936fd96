"""From a spec to a torch module. The only place that knows which module is whose block's."""

from __future__ import annotations

import torch

from archlab import blocks
from archlab.algebra import is_scalar
from archlab.errors import SpecError
from archlab.ledger import ledger
from archlab.nn.altup import AltUp, AltUpMerge, AltUpSplit
from archlab.nn.attention import Attention
from archlab.nn.cross_attention import CrossAttention
from archlab.nn.declare import Declared, initialise
from archlab.nn.decoder import Decoder
from archlab.nn.embedding import Embedding, Head
from archlab.nn.laurel import Laurel
from archlab.nn.layer_scalar import LayerScalar
from archlab.nn.mlp import MLP
from archlab.nn.moe import MoE
from archlab.nn.norm import LayerNorm, RMSNorm
from archlab.nn.per_layer_embedding import PerLayerEmbedding, PerLayerInput
from archlab.nn.position_embedding import PositionEmbedding
from archlab.nn.rglru import RGLRU
from archlab.nn.vision import Patches, Projector
from archlab.spec import Block, ModelSpec

MODULES: dict[type[Block], type[Declared]] = {
    blocks.AltUp: AltUp,
    blocks.AltUpMerge: AltUpMerge,
    blocks.AltUpSplit: AltUpSplit,
    blocks.Attention: Attention,
    blocks.CrossAttention: CrossAttention,
    blocks.Embedding: Embedding,
    blocks.Head: Head,
    blocks.LayerNorm: LayerNorm,
    blocks.LayerScalar: LayerScalar,
    blocks.Laurel: Laurel,
    blocks.MLP: MLP,
    blocks.MoE: MoE,
    blocks.Patches: Patches,
    blocks.PerLayerEmbedding: PerLayerEmbedding,
    blocks.PerLayerInput: PerLayerInput,
    blocks.PositionEmbedding: PositionEmbedding,
    blocks.Projector: Projector,
    blocks.RGLRU: RGLRU,
    blocks.RMSNorm: RMSNorm,
}
"""Block -> its module."""


def build(
    spec: ModelSpec,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    init: bool = True,
) -> Decoder:
    """The decoder that a spec describes: model(ids) -> logits, model.init_cache(batch, context), model(ids, cache).

    Weights are random, drawn from `seed` (init=False leaves the memory as it was found; meta has none).
    Raises SpecError for a spec of columns or symbols.
    """

    def make(block: Block) -> Declared:
        return MODULES[type(block)](block, device, dtype)

    refuse_many(spec)
    model = Decoder(spec, make)
    if init:
        initialise(model, seed)
    return model


def refuse_many(spec: ModelSpec) -> None:
    """Raises SpecError for a spec that stands for many models at once."""
    for entry in ledger(spec).entries:
        for letter, size in {"count": entry.count, **entry.sizes}.items():
            if size is not None and not is_scalar(size):
                raise SpecError(f"{entry.path} has {letter} = {size}; only a model of plain numbers can be built")
