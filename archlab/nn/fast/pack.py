"""Packed weights: one matrix for products that read the same input, and the logical parameters as views of its rows.

State dicts, loading and export see the parameters under their own names and shapes; nothing is stored twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archlab.nn.declare import Declared


def pack(module: Declared, *names: str) -> Tensor:
    """The weights [*out, in] named, one below the other: rows x in. The parameters become views of it, once."""
    parts = [getattr(module, name) for name in names]
    if _is_packed(parts):
        return _whole(parts)
    whole = torch.cat([part.detach().flatten(0, -2) for part in parts])
    starts = torch.tensor([0, *(rows(part) for part in parts)]).cumsum(0).tolist()
    for name, part, start in zip(names, parts, starts, strict=False):
        view = whole[start : start + rows(part)].view(part.shape)
        module.register_parameter(name, nn.Parameter(view, part.requires_grad))
    return whole


def rows(weight: Tensor) -> int:
    """Rows of a weight [*out, in] as a matrix."""
    return weight.numel() // weight.shape[-1]


def _is_packed(parts: list[Tensor]) -> bool:
    """Whether they lie one after another in one storage."""
    first, at = parts[0], parts[0].storage_offset()
    for part in parts:
        if part.untyped_storage()._cdata != first.untyped_storage()._cdata or part.storage_offset() != at:
            return False
        at += part.numel()
    return True


def _whole(parts: list[Tensor]) -> Tensor:
    """The matrix that they are views of."""
    first, width = parts[0].detach(), parts[0].shape[-1]
    return first.as_strided((sum(map(rows, parts)), width), (width, 1), first.storage_offset())
