"""Small specs for tests that build: every preset scaled down, and random legal ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

import archlab
from archlab.blocks.mlp import ACTIVATIONS
from archlab.assemble import resolve
from archlab.presets import read
from archlab.spec import ModelSpec

TOP = {"d_model": 40, "n_layers": 7, "vocab_size": 89, "context": 48}
SMALL = {"head_dim": 12, "d_ff": 56, "window": 6, "query_scale": 9.5}
"""Sizes with no factor in common, so that two axes taken for each other show."""


def shrunk(name: str) -> ModelSpec:
    """A preset with its pattern, its options and its grouping of heads, in small."""
    data = read(name)
    return resolve({k: _shrunk(v) if isinstance(v, dict) else TOP.get(k, v) for k, v in data.items()})


def _shrunk(section: Mapping[str, Any]) -> dict[str, Any]:
    small = {k: SMALL[k] if k in SMALL and v is not None else v for k, v in section.items()}
    if "n_heads" in section:
        kv_heads = section["n_kv_heads"]
        small |= {"n_heads": 6, "n_kv_heads": 1 if kv_heads == 1 else 6 if kv_heads == section["n_heads"] else 2}
    return small


PRESETS = archlab.models()
DISTINCT = list({shrunk(name).decoder: name for name in reversed(PRESETS)}.values())[::-1]
"""Presets that differ in small: a fine-tuned model has its base's shape."""


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any legal spec of a few layers."""
    n_kv_heads = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(["local", "global"]), min_size=1, max_size=4))
    n_layers = draw(st.integers(1, 6))
    thetas, factors = st.sampled_from([1e4, 1e6]), st.sampled_from([1.0, 8.0])
    rope = st.fixed_dictionaries({"rope_theta": thetas, "rope_factor": factors})
    data: dict[str, Any] = {
        "name": "random",
        "family": "gemma3",
        "source": "hypothesis",
        "d_model": draw(st.integers(1, 40)),
        "n_layers": n_layers,
        "vocab_size": draw(st.integers(1, 60)),
        "context": draw(st.integers(1, 64)),
        "pattern": kinds,
        "attention": {
            "n_heads": n_kv_heads * draw(st.integers(1, 4)),
            "n_kv_heads": n_kv_heads,
            "head_dim": 2 * draw(st.integers(1, 8)),
            "query_scale": draw(maybe(st.floats(0.5, 64))),
            "softcap": draw(maybe(st.floats(1, 50))),
            "qk_norm": draw(st.booleans()),
        },
        "mlp": {"d_ff": draw(st.integers(1, 50)), "activation": draw(st.sampled_from(ACTIVATIONS))},
        "norm": {"gain": draw(st.sampled_from(["one_plus", "plain"])), "post": draw(st.booleans())},
        "embedding": {"scaled": draw(st.booleans())},
        "head": {"tied": draw(st.booleans()), "softcap": draw(maybe(st.floats(1, 50)))},
    }
    if "local" in kinds:
        data["local"] = draw(rope) | {"window": draw(st.integers(1, 12))}
    if "global" in kinds:
        data["global"] = draw(rope)
    return resolve(data)


@st.composite
def spans(draw: st.DrawFn, most: int = 24) -> tuple[int, int]:
    """(new, context): T tokens that end at S."""
    context = draw(st.integers(1, most))
    return draw(st.integers(1, context)), context
