"""What can be moved of a model in the explorer: its sizes, each with a slider, and the patterns of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from archlab.analyzers.diagram_words import ratio
from archlab.assemble import resolve
from archlab.columns.graph import Graph
from archlab.columns.traced import column
from archlab.errors import ArchlabError
from archlab.fields import MOST_LAYERS
from archlab.schema import PLAIN_KINDS, field_of, field_type, flat, override
from archlab.spec import ModelSpec
from archlab.sweep.sensitivity import SIZES

WINDOW = 4096
"""The window of a model that has none, once a pattern has local layers: Gemma 2's."""

MOST_RATIO = 9
OCTAVES = 3
"""A slider goes so many octaves to either side of what the model has."""


def sizes(spec: ModelSpec) -> Iterator[tuple[str, int]]:
    """The sizes that the file states for its decoder and encoder, the window of local layers among them."""
    stated = dict(flat({k: v for k, v in spec.data.items() if k not in ("vision", "audio")}))
    for key, value in stated.items():
        if key.rpartition(".")[2] in SIZES and isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def slider(spec: ModelSpec, key: str, base: int) -> dict[str, Any]:
    """A size and its slider; or why it stands still."""
    added = key == "local.window" and "local" not in spec.pattern
    found = {"key": key, "base": base, "doc": field_of(spec.data, key).metadata["doc"], "added": added}
    if key.endswith("n_layers") and _still(spec):
        return {**found, "fixed": _still(spec)}
    try:
        probe = Graph(1)
        resolve(override(dict(spec.data), {key: column(probe, np.array([1.0, 2.0 * base]), 0)}))
    except ArchlabError as problem:
        return {**found, "fixed": str(problem)}
    stops = _stops(key, base)
    stops = [n for n in stops if field_type(spec.data, key).mask(np.asarray([float(n)])).all()]
    return {**found, "least": 1, "most": _most(key, base), "stops": stops}


def _most(key: str, base: int) -> int:
    return MOST_LAYERS if key.endswith("n_layers") else max(2**20, base * 2**OCTAVES)


def _stops(key: str, base: int) -> list[int]:
    """Where a slider rests: every depth; of other sizes four an octave (two where they are small), and the model's."""
    name = key.rpartition(".")[2]
    if name == "n_layers":
        return [*range(1, max(4 * base, 48) + 1)]
    steps = (4, 6) if name in ("n_heads", "n_kv_heads", "window", "head_dim", "experts", "top_k") else (4, 5, 6, 7)
    low, high = max(base >> OCTAVES, 1), base << OCTAVES
    grid = {(step << power) // 4 for power in range(24) for step in steps}
    return sorted({n for n in grid if low <= n <= high} | {base})


def patterns(spec: ModelSpec) -> Iterator[dict[str, Any]]:
    """The model's own pattern and its relatives: so many layers of its usual kind to each of the other."""
    if _still(spec):
        return
    own = [*spec.pattern]
    yield {"label": ratio(own), "pattern": own}
    usual, other = _two_kinds(spec)
    if other is None:
        return
    for n in range(MOST_RATIO + 1):
        found = [usual] * n + [other]
        if found != own:
            yield {"label": ratio(found), "pattern": found}
    if own != [usual]:
        yield {"label": ratio([usual]), "pattern": [usual]}


def _two_kinds(spec: ModelSpec) -> tuple[str, str | None]:
    """The kind of most layers, and the other one; a decoder with global layers alone may have local ones."""
    kinds = list(dict.fromkeys(spec.pattern))
    if kinds == ["global"]:
        return "local", "global"
    if len(kinds) != 2:
        return kinds[0], None
    last = spec.pattern[-1]
    return next(k for k in kinds if k != last), last


def _still(spec: ModelSpec) -> str:
    """Why its layers stand as they are; nothing where they can be others."""
    if spec.data.get("spans"):
        return "spans of this model name layers by their position"
    return "the encoder takes after the decoder, layer by layer" if spec.encoder is not None else ""


def both_kinds(spec: ModelSpec, patterns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The model's data with a layer of every kind that a pattern may have."""
    kinds = dict.fromkeys(kind for p in patterns for kind in p["pattern"])
    data = dict(spec.data)
    if set(kinds) <= {*PLAIN_KINDS} and "local" in kinds and not (data.get("local") or {}).get("window"):
        data["local"] = {**(data.get("local") or {}), "window": WINDOW}
    return {**data, "pattern": [*kinds]}
