"""What a forward pass of a workload is given: token ids, a source's ids, pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from archlab.errors import ArchlabError
from archlab.nn.decoder import Decoder
from archlab.workload import Workload


def inputs_of(model: Decoder, work: Workload, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Keyword arguments of `model.forward`, on the model's device: random ones of a CPU generator, or zeros without.

    With an encoder `ids` is the source, where it is new, and the tokens are `decoder_ids`. New images stand at the
    beginning, each token of theirs in its place. Raises ArchlabError for an encoder without a source.
    """
    spec = model.spec
    if spec.encoder is not None and not work.source:
        raise ArchlabError(f"source=0 leaves the encoder of {spec.name} nothing to read; give it a source")
    first = next(model.parameters())

    def tokens(length: int, images: int) -> Tensor:
        shape = (work.batch, length)
        ids = torch.zeros(shape, dtype=torch.long)
        if generator is not None:
            ids = torch.randint(spec.vocab_size, shape, generator=generator)
            ids = _without(ids, [s.token for s in (spec.vision, spec.audio) if s is not None and s.token is not None])
        if images:
            tower: Any = spec.vision
            ids[:, : images * tower.tokens] = tower.token
        return ids.to(first.device)

    if spec.encoder is None:
        found = {"ids": tokens(work.new, work.new_images)}
    else:
        found = {"ids": tokens(work.new_source, work.new_images)} if work.new_source else {}
        found["decoder_ids"] = tokens(work.new, 0)
    if work.new_images:
        patches: Any = model.vision.patches.block
        side = patches.image_size
        shape = (work.batch * work.new_images, 3, side, side)
        pixels = torch.zeros(shape) if generator is None else torch.rand(shape, generator=generator) * 2 - 1
        found["pixels"] = pixels.to(first.device, first.dtype)
    return found


def _without(ids: Tensor, taken: list[int]) -> Tensor:
    """ids with those that stand for images or sounds replaced by 0."""
    for token in taken:
        ids = ids * (ids != token)
    return ids
