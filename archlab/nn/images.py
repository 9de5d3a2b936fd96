"""Images in a sequence: which tokens stand for them, and whether those and what was given for them fit together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from archlab.errors import ArchlabError
from archlab.layers import Stack

ONE = {"vision": "image", "audio": "clip"}
"""What a tower reads one of."""


def places(ids: Tensor, tower: Stack) -> Tensor:
    """B T: where a token stands for a part of what the tower reads."""
    return ids.eq(tower.token)  # type: ignore[arg-type]  # a tower without a token is refused before


def runs(ids: Tensor, tower: Stack) -> Tensor:
    """B T: which image a token belongs to, from 1, by runs of the token that stands for images; 0 for text.

    Images side by side are one run, as in transformers; prompts keep them apart by tokens of begin and end, which is
    what the rows count.
    """
    inside = places(ids, tower)
    starts = inside & ~F.pad(inside, (1, 0))[:, :-1]
    return starts.cumsum(1) * inside


def check_pixels(pixels: Tensor, side: int) -> None:
    """Raises ArchlabError unless pixels are images I 3 side side."""
    wanted = f"(images, 3, {side}, {side})"
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        kind = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise ArchlabError(f"pixels must be a tensor of real numbers {wanted}, not {kind}")
    if pixels.dim() != 4 or tuple(pixels.shape[1:]) != (3, side, side) or not len(pixels):
        raise ArchlabError(f"pixels must be {wanted}, not {tuple(pixels.shape)}")


def check_features(features: Tensor, tower: Stack, width: int) -> None:
    """Raises ArchlabError unless features are what a tower and its projector make: I tokens width."""
    shape = tuple(features.shape) if isinstance(features, Tensor) else ()
    tokens = shape[1] if len(shape) == 3 and shape[0] and shape[2] == width else 0
    if tokens < 1 or tokens > tower.tokens or (tokens < tower.tokens and not tower.counted):
        most = "at most " if tower.counted else ""
        wanted = f"({ONE[tower.name]}s, {most}{tower.tokens} tokens, {width})"
        raise ArchlabError(f"features of {tower.name} must be {wanted}, not {shape or type(features).__name__}")


def check_places(ids: Tensor, tower: Stack, images: int, tokens: int) -> None:
    """Raises ArchlabError unless ids have places for so many images of so many tokens, each of them whole."""
    if not readable(ids):
        return
    inside, one = places(ids, tower), ONE[tower.name]
    found = int(inside.sum())
    if found != images * tokens:
        raise ArchlabError(f"{found} {one} tokens in the ids (each {tower.token}) do not match {images} of {tokens}")
    rows = torch.arange(len(ids), device=ids.device)[:, None] * ids.shape[1]
    lengths = (rows + runs(ids, tower))[inside].unique(return_counts=True)[1].tolist()
    cut = next((length for length in lengths if length % tokens), None)
    if cut is not None:
        raise ArchlabError(
            f"{cut} {one} tokens in a row in the ids: each {one} has {tokens} and comes whole, in one call"
        )


def check_forgotten(ids: Tensor, tower: Stack) -> None:
    """Raises ArchlabError for ids with two tokens of an image in a row where nothing was given for it."""
    inside = places(ids, tower)
    if ids.shape[1] > 1 and readable(ids) and bool((inside[:, 1:] & inside[:, :-1]).any()):
        needed = "features" if tower.counted else "pixels or features"
        raise ArchlabError(f"the ids hold {ONE[tower.name]} tokens (each {tower.token}), and no {needed} for them")


def readable(ids: Tensor) -> bool:
    """Whether values may be looked at: not on meta or of fake tensors, nor while a CUDA graph is captured."""
    if ids.is_meta or isinstance(ids, FakeTensor):
        return False
    return not (ids.is_cuda and torch.cuda.is_current_stream_capturing())
