"""Small specs for tests that build: every preset scaled down, and random legal ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

import archlab
from archlab.assemble import resolve
from archlab.blocks.mlp import ACTIVATIONS
from archlab.errors import SpecError
from archlab.presets import read
from archlab.schema import expand_pattern
from archlab.spec import ModelSpec
from archlab.workload import Workload

TOP = {"d_model": 40, "vocab_size": 89, "context": 48, "token": 88, "end_of_image": 87}
SMALL = {
    "head_dim": 12, "d_ff": 56, "window": 6, "ahead": 6, "query_scale": 9.5, "width": 30, "rank": 3, "table_rows": 71,
    "experts": 5, "top_k": 2, "streams": 3, "image_size": 28, "patch_size": 7, "positions": 9, "pool": 2,
    "parameters": 110, "projector": 12, "tokens": 4,
}  # fmt: skip
"""Sizes with no factor in common, so that two axes taken for each other show."""


def shrunk(name: str) -> ModelSpec:
    """A preset with its pattern, its options, its spans and its grouping of heads, in small."""
    data = read(name)
    small = _shrunk("", data)
    small["n_layers"] = 2 * len(expand_pattern(data["pattern"])) + 1 if data.get("spans") else 7
    for span in small.get("spans", {}).values():
        span["layers"] = ":3" if span["layers"].startswith(":") else "-2:"
    for tower in (small.get("vision"), small.get("audio")):
        if tower is not None and "patches" in tower:
            tower |= {"d_model": 26, "n_layers": 2}
    if "token" in small.get("audio", {}):
        small["audio"]["token"] = 86
    return resolve(small)


def _shrunk(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    known = TOP | SMALL
    small = {
        k: _shrunk(k, v) if isinstance(v, Mapping) else known[k] if k in known and v is not None else v
        for k, v in section.items()
    }
    if "n_heads" in section and "n_kv_heads" in section:
        same = section["n_kv_heads"] == section["n_heads"]
        small |= {"n_heads": 6, "n_kv_heads": 1 if section["n_kv_heads"] == 1 else 6 if same else 2}
    elif "n_heads" in section:
        small["n_heads"] = 6
    elif "n_kv_heads" in section:
        small["n_kv_heads"] = 1 if section["n_kv_heads"] == 1 else 2
    if name == "global" and "head_dim" in section:
        small["head_dim"] = 16
    return small


PRESETS = archlab.models()


def _distinct() -> list[str]:
    """Presets that differ in small: a fine-tuned model has its base's shape."""
    return list({shrunk(name).stacks: name for name in reversed(PRESETS)}.values())[::-1]


DISTINCT = _distinct()


def _families() -> list[str]:
    """One preset a family, and one more for each set of blocks that a family has."""
    first: dict[Any, str] = {}
    for name in DISTINCT:
        spec = shrunk(name)
        sorts = frozenset(type(block) for stack in spec.stacks for _, block, _ in stack.blocks())
        first.setdefault((spec.family, sorts), name)
    return list(first.values())


_DEFAULT = _families()
ONE_A_FAMILY = [pytest.param(name, marks=() if name in _DEFAULT else pytest.mark.slow, id=name) for name in DISTINCT]
"""For the default run one preset a family; the others are slow."""


def telling(spec: ModelSpec, batch: int, new: int, context: int, logits: str = "all") -> Workload:
    """A workload of those sizes, with a source where there is an encoder, and images where they can be run."""
    first = new == context
    source = 11 if spec.encoder is not None else 0
    seen = spec.vision is not None and not spec.vision.counted
    images = 2 if seen and 2 * spec.vision.tokens <= (source or context) else 0
    return Workload(
        batch, new, context, logits=logits, source=source, images=images,
        new_source=source if first else 0, new_images=images if first else 0,
    )  # fmt: skip


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def specs(draw: st.DrawFn, everything: bool = False) -> ModelSpec:
    """Any legal decoder of a few layers; with `everything`, of all blocks there are."""
    n_kv_heads = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(["local", "global"]), min_size=1, max_size=4))
    n_layers = draw(st.integers(1, 6))
    thetas, factors = st.sampled_from([1e4, 1e6]), st.sampled_from([1.0, 8.0])
    rope = st.fixed_dictionaries({"rope_theta": thetas, "rope_factor": factors})
    data: dict[str, Any] = {
        "name": "random",
        "family": "gemma3",
        "source": "hypothesis",
        "d_model": draw(st.integers(8 if everything else 1, 40)),  # norms of a stream of 1 flip its sign
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
    if everything:
        _everything(draw, data)
    try:
        return resolve(data)
    except SpecError:
        assume(everything)  # options that exclude each other; without them every draw is legal
        assume(False)
        raise


def _everything(draw: st.DrawFn, data: dict[str, Any]) -> None:
    """Blocks of every family, put together as no release does."""
    size = st.integers(1, 9)
    attention = data["attention"]
    attention |= {"v_norm": draw(st.booleans()), "bias": draw(st.sampled_from(["none", "none", "output", "all"]))}
    attention |= draw(
        st.sampled_from(
            [{}, {"k_is_v": True, "bias": "none"}, {"rope_theta": None}, {"rope_original": 16, "rope_fast": 2.0}]
        )
    )
    data["mlp"] |= draw(st.sampled_from([{}, {"bias": True}, {"gated": False}, {"sparsity": 0.9}]))
    data["norm"]["type"] = draw(st.sampled_from(["rms", "layer"]))
    wanted = draw(
        st.sets(
            st.sampled_from(["moe", "laurel", "altup", "per_layer", "scalar", "rglru", "encoder", "spans", "positions"])
        )
    )
    if "positions" in wanted:
        data["position_embedding"] = {"table_rows": draw(st.integers(64, 70))}
    if "moe" in wanted:
        experts = draw(st.integers(1, 6))
        data["moe"] = {"experts": experts, "top_k": draw(st.integers(1, experts)), "d_ff": draw(size)}
    if "laurel" in wanted:
        data["laurel"] = {"rank": draw(size)}
    if "altup" in wanted:
        data["altup"] = {"streams": draw(st.integers(2, 4)), "scaled": draw(st.booleans())}
    if "per_layer" in wanted:
        data["per_layer_embedding"] = {"width": draw(size), "table_rows": draw(maybe(st.integers(1, 40)))}
    if "scalar" in wanted:
        data["layer_scalar"] = {}
    if "rglru" in wanted:
        heads = draw(st.integers(1, 3))
        data["recurrent"] = {
            "block": "rglru",
            "width": heads * draw(size),
            "n_heads": heads,
            "conv": draw(st.integers(2, 5)),
        }
        data["pattern"] = ["recurrent", *data["pattern"]]
    if "spans" in wanted:
        period = len(data["pattern"])
        data["n_layers"] = 2 * period
        data["spans"] = {"last": {"layers": f"-{period}:", "attention": {"kv": "shared"}, "mlp": {"d_ff_factor": 2}}}
    if "encoder" in wanted:
        data["encoder"] = {"attention": {"mask": "bidirectional"}, "n_layers": draw(st.integers(1, 3))}
        if draw(st.booleans()):
            data["cross_attention"] = {}
            data["encoder"]["d_model"] = draw(st.integers(8, 30))
        else:
            attention |= {"source": "merged", "bias": "none", "v_norm": False, "k_is_v": False}


@st.composite
def spans(draw: st.DrawFn, most: int = 24) -> tuple[int, int]:
    """(new, context): T tokens that end at S."""
    context = draw(st.integers(1, most))
    return draw(st.integers(1, context)), context
