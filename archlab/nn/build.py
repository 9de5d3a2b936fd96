"""From a spec to a torch module. The only place that knows which module is whose block's."""

from __future__ import annotations

from typing import Any

import torch

from archlab import blocks
from archlab.algebra import is_scalar
from archlab.errors import SpecError
from archlab.layers import Block
from archlab.ledger import ledger
from archlab.nn.altup import AltUp, AltUpMerge, AltUpSplit
from archlab.nn.attention import Attention
from archlab.nn.cross_attention import CrossAttention
from archlab.nn.declare import Declared, initialise
from archlab.nn.decoder import Decoder
from archlab.nn.embedding import Embedding, Head
from archlab.nn.fast.attention import FastAttention
from archlab.nn.fast.decoder import FastDecoder
from archlab.nn.fast.mlp import FastMLP
from archlab.nn.kernels import Kernels, kernels_for
from archlab.nn.laurel import Laurel
from archlab.nn.layer_scalar import LayerScalar
from archlab.nn.mlp import MLP
from archlab.nn.moe import MoE
from archlab.nn.norm import LayerNorm, RMSNorm
from archlab.nn.per_layer_embedding import PerLayerEmbedding, PerLayerInput
from archlab.nn.position_embedding import PositionEmbedding
from archlab.nn.rglru import RGLRU
from archlab.nn.vision import Patches, Projector
from archlab.spec import ModelSpec

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

FAST: dict[type[Block], type[FastAttention] | type[FastMLP]] = {blocks.Attention: FastAttention, blocks.MLP: FastMLP}
"""Block -> the module that is made for speed, where there is one and it takes the block."""


def build(
    spec: ModelSpec,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    init: bool = True,
    fast: bool = False,
) -> Decoder:
    """The decoder that a spec describes: model(ids) -> logits, model.init_cache(batch, context), model(ids, cache).

    ids are whole numbers of shape (B, T), logits (B, T, V), or (B, 1, V) with logits="last". An encoder-decoder takes
    decoder_ids= beside them, a model with a tower pixels=; an encoder alone returns hidden states (B, T, D).
    Weights are random, drawn from `seed` (init=False leaves the memory as it was found; meta has none).
    fast    the same decoder, with the same parameters, made for inference at speed instead of reading (see nn/fast)
    Raises SpecError for a spec of columns or symbols, ArchlabError for a fast one on a GPU without Triton.
    """
    refuse_many(spec)
    with torch.inference_mode(False):  # parameters are ordinary tensors, whatever the caller does with them
        kernels = kernels_for(torch.device(device)) if fast else None
        model = _reference(spec, device, dtype) if kernels is None else fast_decoder(spec, device, dtype, kernels)
        model.requires_grad_(not fast)
    if init:
        initialise(model, seed)
    return model


def _reference(spec: ModelSpec, device: torch.device | str, dtype: torch.dtype) -> Decoder:
    return Decoder(spec, lambda block: MODULES[type(block)](block, device, dtype))


def fast_decoder(spec: ModelSpec, device: torch.device | str, dtype: torch.dtype, kernels: Kernels) -> FastDecoder:
    """The fast decoder on kernels of one's own choice; its weights are as the memory was found."""

    def make(block: Block) -> Declared:
        kind = fast_module(block)
        return MODULES[type(block)](block, device, dtype) if kind is None else kind(block, device, dtype, kernels)

    model = FastDecoder(spec, make, kernels)
    model.plan()
    return model


def fast_module(block: Block) -> Any:
    """The module of a block that is made for speed; None where there is none, or it does not take this block."""
    kind: Any = FAST.get(type(block))
    return kind if kind is not None and kind.takes(block) else None


def refuse_many(spec: ModelSpec) -> None:
    """Raises SpecError for a spec that stands for many models at once."""
    for entry in ledger(spec).entries:
        for letter, size in {"count": entry.count, **entry.sizes}.items():
            if size is not None and not is_scalar(size):
                raise SpecError(f"{entry.path} has {letter} = {size}; only a model of plain numbers can be built")
