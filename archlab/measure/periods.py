"""The same model with another number of layers: the period of its pattern, and for which models there is none."""

from __future__ import annotations

from archlab.assemble import resolve
from archlab.errors import SpecError
from archlab.spec import ModelSpec


def period_of(spec: ModelSpec) -> int:
    """Layers after which the pattern begins anew. Raises SpecError where layers are more than a repeated pattern."""
    if spec.encoder is not None:
        raise SpecError(
            f"{spec.name} cannot be sampled by layers: it has an encoder, whose layers are a second pattern"
        )
    spans = spec.data.get("spans")
    if spans:
        raise SpecError(
            f"{spec.name} cannot be sampled by layers: its spans ({', '.join(spans)}) change some of them by position, "
            "which no pattern repeats"
        )
    return len(spec.pattern)


def with_layers(spec: ModelSpec, n_layers: int) -> ModelSpec:
    """The pattern repeated, and then cut at `n_layers`."""
    return resolve({**spec.data, "n_layers": n_layers})
