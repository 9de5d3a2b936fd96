"""The fast decoder's operations in Triton: what a GPU runs. Held against `torch_kernels`, which says what they mean.

A layer of a step is eight launches, in which nothing but weights and cache is read twice; they are allocations and
launches alone, so that a CUDA graph can hold them.
"""

from __future__ import annotations

from archlab.nn.kernels.triton_decode import step_attention
from archlab.nn.kernels.triton_heads import split_heads
from archlab.nn.kernels.triton_linear import gated_linear, norm_linear
from archlab.nn.kernels.triton_norm import add_norm, normed
from archlab.nn.kernels.triton_prefill import causal_attention

__all__ = ["add_norm", "causal_attention", "gated_linear", "norm_linear", "normed", "split_heads", "step_attention"]
