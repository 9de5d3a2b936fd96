"""The block types, one file each, no torch. A new one is registered here, and its torch twin in nn/."""

from archlab.blocks.attention import Attention
from archlab.blocks.embedding import Embedding, Head
from archlab.blocks.mlp import GatedMLP
from archlab.blocks.norm import NormSection, RMSNorm

MIXERS = {"attention": Attention}
"""Blocks that mix tokens: what a kind of layer may be (`block: NAME` in its section)."""

SECTIONS = {"attention": Attention, "mlp": GatedMLP, "norm": NormSection, "embedding": Embedding, "head": Head}
"""The sections of a model file and the fields that each takes."""

__all__ = ["MIXERS", "SECTIONS", "Attention", "Embedding", "GatedMLP", "Head", "NormSection", "RMSNorm"]
