"""The block types, one file each, no torch. A new one is registered here, and its torch twin in nn/."""

from archlab.blocks.altup import AltUp, AltUpMerge, AltUpSplit
from archlab.blocks.attention import Attention
from archlab.blocks.cross_attention import CrossAttention
from archlab.blocks.embedding import Embedding, Head
from archlab.blocks.laurel import Laurel
from archlab.blocks.layer_scalar import LayerScalar
from archlab.blocks.mlp import MLP
from archlab.blocks.moe import MoE
from archlab.blocks.norm import LayerNorm, NormSection, RMSNorm
from archlab.blocks.per_layer_embedding import PerLayerEmbedding, PerLayerInput
from archlab.blocks.position_embedding import PositionEmbedding
from archlab.blocks.rglru import RGLRU
from archlab.blocks.vision import Counted, CountedProjector, Patches, Projector

MIXERS = {"attention": Attention, "rglru": RGLRU}
"""Blocks that mix tokens: what a kind of layer may be (`block: NAME` in its section)."""

IN_LAYERS = {
    "attention": Attention,
    "mlp": MLP,
    "cross_attention": CrossAttention,
    "moe": MoE,
    "laurel": Laurel,
    "layer_scalar": LayerScalar,
}
"""Sections of a model file whose blocks stand in layers, and that a span of layers may change."""

SECTIONS = {
    **IN_LAYERS,
    "norm": NormSection,
    "embedding": Embedding,
    "head": Head,
    "position_embedding": PositionEmbedding,
    "per_layer_embedding": PerLayerEmbedding,
    "altup": AltUp,
}
"""The sections of a decoder or an encoder and the fields that each takes."""

TOWER_SECTIONS = {
    "attention": Attention,
    "mlp": MLP,
    "norm": NormSection,
    "patches": Patches,
    "projector": Projector,
    "counted": Counted,
}
"""The sections of a tower: `vision` or `audio`."""

OPTIONAL = ("cross_attention", "moe", "laurel", "layer_scalar", "position_embedding", "per_layer_embedding", "altup")
"""Sections that put a block where there is none without them; null takes one away again."""

__all__ = [
    "IN_LAYERS",
    "MIXERS",
    "MLP",
    "OPTIONAL",
    "RGLRU",
    "SECTIONS",
    "TOWER_SECTIONS",
    "AltUp",
    "AltUpMerge",
    "AltUpSplit",
    "Attention",
    "Counted",
    "CountedProjector",
    "CrossAttention",
    "Embedding",
    "Head",
    "Laurel",
    "LayerNorm",
    "LayerScalar",
    "MoE",
    "NormSection",
    "Patches",
    "PerLayerEmbedding",
    "PerLayerInput",
    "PositionEmbedding",
    "Projector",
    "RMSNorm",
]
