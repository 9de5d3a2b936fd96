"""Number formats: how many bits a matrix takes, scales included.

A format has `bits` an element, and shares a scale among a group: so many elements of a row (one output's weights),
a whole row, a tile of rows and columns, or the whole tensor. A row that its group does not divide goes over to
another format where the engine does that (llama.cpp, MLX), gets a short last group where it pads, and shares one with
the next row where the tensor is cut up as one line (bitsandbytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archlab.algebra import Number, ceil_div, divides, where
from archlab.errors import SpecError, UnknownNameError, nearest

MOST_BITS = 64
"""Of an element: no wider number is stored."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a tensor's elements are stored.

    bits     an element
    group    elements of a row that share a scale; None: no such scales
    scales   bits of what a group carries: scales, zero points, minima
    tile     rows that share them too (128 for the 128 x 128 blocks of FP8)
    row      bits of scales a row carries
    tensor   bits of scales that a tensor carries
    outer    (groups, bits): scales of scales, over the tensor in order (double quantisation)
    other    the format of rows that `group` does not divide
    flat     groups run on over the ends of rows
    source   where the layout is defined
    """

    name: str
    bits: int
    source: str
    group: int | None = None
    scales: int = 0
    tile: int = 1
    row: int = 0
    tensor: int = 0
    outer: tuple[int, int] | None = None
    other: str | None = None
    flat: bool = False

    def matrix_bits(self, rows: Number, length: Number) -> Number:
        """Bits of `rows` rows of `length` elements each, an int for ints."""
        own = rows * length * self.bits + rows * self.row + self.tensor
        if self.group is not None:
            if self.flat:
                groups = ceil_div(rows * length, self.group)
            else:
                groups = ceil_div(rows, self.tile) * ceil_div(length, self.group)
            own = own + groups * self.scales
            if self.outer is not None:
                own = own + ceil_div(groups, self.outer[0]) * self.outer[1]
        if self.other is None:
            return own
        return where(divides(self.group, length), own, FORMATS[self.other].matrix_bits(rows, length))

    @property
    def bits_per_element(self) -> float:
        """Bits an element of a large matrix whose rows the group divides: 4.5 for Q4_0."""
        rows, length = 2**14, 2**14
        return self.matrix_bits(rows, length) / (rows * length)


_GGUF = "gguf 0.19.0 constants.GGML_QUANT_SIZES; fallbacks: tensor_type_fallback in llama.cpp's src/llama-quant.cpp"
_BNB = "QLoRA arXiv:2305.14314, section 3; bitsandbytes"
_GPTQ = "GPTQ and AWQ files: an fp16 scale and a 4-bit zero point a group"
_CT = "compressed-tensors: pack-quantized, symmetric, a bf16 scale a group"
_MLX = "mlx.core.quantize: a 16-bit scale and a 16-bit bias a group; a row that the group does not divide stays"


def _ggml(name: str, block: int, n_bytes: int, other: str | None = None) -> Format:
    """A GGML type by its block: elements, and bytes that hold them with their scales."""
    bits = n_bytes * 8 // block
    return Format(name, bits, _GGUF, group=block, scales=n_bytes * 8 - bits * block, other=other)


FORMATS: Mapping[str, Format] = {
    f.name: f
    for f in (
        Format("fp32", 32, "IEEE 754 single"),
        Format("bf16", 16, "IEEE 754 single, cut to 16 bits"),
        Format("fp16", 16, "IEEE 754 half"),
        Format("fp8", 8, "OCP OFP8 E4M3, one fp32 scale a tensor", tensor=32),
        Format("fp8_row", 8, "OCP OFP8 E4M3, an fp32 scale an output row (a token and head, of a KV cache)", row=32),
        Format("fp8_block", 8, "OCP OFP8 E4M3, an fp32 scale a 128 x 128 block", group=128, tile=128, scales=32),
        Format("int8", 8, "8-bit integers, an fp32 scale an output row (LLM.int8 arXiv:2208.07339)", row=32),
        Format("int4_row", 4, "4-bit integers, a bf16 scale an output row (per channel: Gemma 3 report, 2.3)", row=16),
        Format("int4_g32", 4, _CT, group=32, scales=16),
        Format("int4_g64", 4, _CT, group=64, scales=16),
        Format("int4_g128", 4, _CT, group=128, scales=16),
        Format("gptq_g32", 4, _GPTQ, group=32, scales=20),
        Format("gptq_g128", 4, _GPTQ, group=128, scales=20),
        Format("nf4", 4, _BNB, group=64, scales=32, flat=True),
        Format("nf4_dq", 4, _BNB + ": 8-bit scales, an fp32 scale for 256 of them",
               group=64, scales=8, outer=(256, 32), flat=True),
        Format("mxfp4", 4, "OCP Microscaling v1.0: E2M1, an E8M0 scale for 32", group=32, scales=8),
        Format("nvfp4", 4, "NVIDIA NVFP4: E2M1, an E4M3 scale for 16, an fp32 scale a tensor",
               group=16, scales=8, tensor=32),
        Format("mlx_4", 4, _MLX, group=64, scales=32, other="bf16"),
        Format("mlx_4_g32", 4, _MLX, group=32, scales=32, other="bf16"),
        Format("mlx_8", 8, _MLX, group=64, scales=32, other="bf16"),
        _ggml("q4_0", 32, 18, "fp16"), _ggml("q4_1", 32, 20, "fp16"), _ggml("q5_0", 32, 22, "fp16"),
        _ggml("q5_1", 32, 24, "fp16"), _ggml("q8_0", 32, 34, "fp16"), _ggml("iq4_nl", 32, 18, "fp16"),
        _ggml("q2_k", 256, 84, "q4_0"), _ggml("q3_k", 256, 110, "q4_0"), _ggml("q4_k", 256, 144, "q5_0"),
        _ggml("q5_k", 256, 176, "q5_1"), _ggml("q6_k", 256, 210, "q8_0"), _ggml("iq4_xs", 256, 136, "iq4_nl"),
        _ggml("iq3_s", 256, 110, "iq4_nl"),
    )
}  # fmt: skip
"""The formats that precisions name. A precision file may spell out one of its own."""


def format_named(name: Any) -> Format:
    """A format by name, or from its keys. Raises ArchlabError."""
    if isinstance(name, Format):
        return name
    if isinstance(name, Mapping):
        return _spelled_out(name)
    if not isinstance(name, str):
        raise SpecError(f"format {name!r} must be a name such as bf16 or q4_0, or keys (bits, group, scales)")
    if name not in FORMATS:
        raise UnknownNameError(f"unknown format {name!r}{nearest(name, FORMATS)} (known: {', '.join(FORMATS)})")
    return FORMATS[name]


def _spelled_out(keys: Mapping[str, Any]) -> Format:
    known = ("bits", "group", "scales", "tile", "row", "tensor")
    for key, value in keys.items():
        if key not in known:
            raise SpecError(f"unknown key {key} of a format{nearest(key, known)} (known: {', '.join(known)})")
        if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (value == 0 and key in known[:2]):
            raise SpecError(f"{key}={value!r} of a format must be a whole number of bits or elements")
        if key == "bits" and value > MOST_BITS:
            raise SpecError(f"bits={value} of a format must be at most {MOST_BITS}, the bits of an element")
        if key == "tile" and value < 1:
            raise SpecError(f"tile={value} of a format must be a whole number of 1 or more, the rows that share scales")
    if "bits" not in keys:
        raise SpecError("a format that is spelled out needs bits, the bits of an element")
    for key in ("scales", "tile"):
        if key in keys and "group" not in keys:
            raise SpecError(f"{key}={keys[key]} of a format needs group, the elements that share scales")
    return Format("own", source="the file's own", **keys)
