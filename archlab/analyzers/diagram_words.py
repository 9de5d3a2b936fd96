"""What a reader calls a block and its fields, and the rows of a box in which layers of several kinds are told together.

A field that is not known here has its own name, and is told where it is not as usual (its default).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archlab.algebra import Number, is_scalar
from archlab.fields import fields_of
from archlab.layers import Block

TITLES = {
    "attention": "Self-attention", "cross_attention": "Cross-attention", "recurrent": "Recurrent, RG-LRU",
    "mlp": "MLP", "moe": "Mixture of experts", "laurel": "LAuReL", "altup": "AltUp", "per_layer": "Per-layer input",
    "embedding": "Token embedding", "position_embedding": "Learned positions",
    "per_layer_embedding": "Per-layer embeddings", "altup_split": "AltUp: to further streams",
    "altup_merge": "AltUp: mean of the streams", "head": "Output head",
}  # fmt: skip
"""Path or part of a block -> its title."""

COLUMNS = 2
"""So many kinds of layer stand beside one another in a box; more stand below one another."""

NOTHING = "–"

Facts = dict[str, tuple[str, str]]
"""Key (a field's name) -> (label, value)."""

Row = list[Any]
"""[key, label, [value, or one for each column]]."""


def ratio(pattern: Sequence[str]) -> str:
    """'5 local : 1 global': the kinds of a pattern in the order of their first layer; 'all global' of one kind."""
    kinds = dict.fromkeys(pattern)
    if len(kinds) == 1:
        return f"all {pattern[0]}"
    return " : ".join(f"{pattern.count(kind)} {kind}" for kind in kinds)


def title_of(name: str, block: Block) -> str:
    """What the block at this path is called."""
    if block.part == "norm":
        return f"{_words(name).removesuffix(' norm').capitalize()} {norm_name(block)}"
    return (
        TITLES.get(name if name != "attention" else block.part) or TITLES.get(block.part) or _words(name).capitalize()
    )


def norm_name(block: Block) -> str:
    """'RMSNorm', or what a norm that is another says of itself."""
    return next((what for what, _ in block.special()), "RMSNorm")


def sharing(n_heads: Number, n_kv_heads: Number) -> str:
    """MQA, MHA, or GQA between them."""
    return {1: "MQA", n_heads: "MHA"}.get(n_kv_heads, "GQA")


def facts_of(name: str, block: Block) -> Facts:
    """What a box says of its block."""
    told = {key: value for key, value in block.facts().items() if key not in HIDDEN.get(name, NEVER)}
    if "d_ff_factor" in told:
        told["d_ff"] = told["d_ff"] * told.pop("d_ff_factor")
    if "query_scale" in told and told["query_scale"] is None:
        told["query_scale"] = told["head_dim"]
    declared = fields_of(type(block))
    usual = {key: f.default for key, f in declared.items()}
    sizes = {key: (label, shown(block.sizes()[letter])) for letter, key, label in SIZES.get(name, ())}
    return sizes | {k: _said(block.part, k, v, told) for k, v in told.items() if _worth(k, v, usual.get(k))}


SIZES = {
    "embedding": (("V", "vocab_size", "vocabulary"), ("D", "d_model", "d_model")),
    "head": (("V", "vocab_size", "logits"),),
    "position_embedding": (("Z", "positions", "positions"),),
}
"""Path -> what its stack tells the block: letter, key, label."""

HIDDEN = {
    "per_layer": {"table_rows", "on_host"}, "position_embedding": {"table_rows"}, "altup": {"scaled"},
    "altup_split": {"streams", "active", "scaled"}, "altup_merge": {"streams", "active", "scaled"},
}  # fmt: skip
"""Path -> fields that another box of the same picture tells, or its title."""

ALWAYS = {"window", "rope_theta", "activation", "query_scale", "tied", "conv", "active"}
"""Told where they are as usual too."""

NEVER = {"unread_kv", "source", "scale_format", "on_host", "rope_spread", "rope_slow", "rope_fast"}
"""Small print: `archlab describe` and the model's file have it."""


def _worth(key: str, value: Any, usual: Any) -> bool:
    if key in ("scaled", "gated"):
        return key == "scaled" and value is True
    return key in ALWAYS or not _same(value, usual)


def _same(a: Any, b: Any) -> bool:
    return a is b or (is_scalar(a) and is_scalar(b) and a == b) or (isinstance(a, str) and a == b)


def _said(part: str, key: str, value: Any, told: Mapping[str, Any]) -> tuple[str, str]:
    if (part, key) in LABELS:
        label, show = LABELS[part, key]
    else:
        label, show = LABELS.get(("", key), (_words(key), shown))
    text = show(value)
    if key == "n_kv_heads" and is_scalar(value) and is_scalar(told.get("n_heads")):
        text = f"{text} ({sharing(told['n_heads'], value)})"
    if key == "activation" and told.get("gated"):
        text = f"{text}, gated"
    return label, text


def _words(name: str) -> str:
    return name.replace("_", " ")


def shown(value: Any) -> str:
    """'4,096', '0.5', 'yes', 'none'; 'varies' of a column or a symbol."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, str):
        return value
    if not is_scalar(value):
        return "varies"
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _short(value: Any) -> str:
    """'10k', '1M': bases of RoPE are round."""
    for unit, scale in (("M", 10**6), ("k", 10**3)):
        if is_scalar(value) and value >= scale and value % (scale / 10) == 0:
            return f"{value / scale:g}{unit}"
    return shown(value)


def _root(value: Any) -> str:
    return "1" if is_scalar(value) and value == 1 else f"1/√{shown(value)}"


def _share(value: Any) -> str:
    return f"{value:.0%}".replace("%", " %") if is_scalar(value) else shown(value)


def _over(value: Any) -> str:
    return f"÷ {shown(value)}"


LABELS: Mapping[tuple[str, str], tuple[str, Callable[[Any], str]]] = {
    ("", "n_heads"): ("query heads", shown), ("", "n_kv_heads"): ("KV heads", shown), ("", "d_ff"): ("d_ff", shown),
    ("recurrent", "n_heads"): ("blocks of the gates", shown), ("recurrent", "conv"): ("taps", shown),
    ("", "query_scale"): ("score scale", _root), ("", "softcap"): ("soft cap", shown),
    ("", "qk_norm"): ("QK-norm", shown), ("", "v_norm"): ("V-norm", shown), ("", "k_is_v"): ("K = V", shown),
    ("", "kv"): ("K and V", shown), ("", "rope_theta"): ("RoPE θ", _short), ("", "rope_factor"): ("RoPE", _over),
    ("", "rope_original"): ("RoPE, at first", shown),
    ("", "rope_fraction"): ("RoPE on", _share), ("", "rope_axes"): ("RoPE axes", shown),
    ("", "sparsity"): ("gate zeroed", _share), ("", "top_k"): ("experts a token", shown),
    ("embedding", "scaled"): ("times √d_model", shown), ("altup", "streams"): ("streams", shown),
    ("altup", "active"): ("runs on stream", shown), ("", "what"): ("sort", shown),
    ("", "image_size"): ("image, px", shown), ("", "patch_size"): ("patch, px", shown),
}  # fmt: skip
"""(Part or '', field) -> label, and how its value is written."""


# ---------------------------------------------------------------- layers of several kinds in one box


def rows_of(members: Sequence[tuple[str, Number, Facts]]) -> tuple[list[str], list[Row]]:
    """(columns, rows) of blocks of (kind, layers, facts): a value that all share once; a value by kind in columns;
    else each value with the number of its layers."""
    kinds = list(dict.fromkeys(kind for kind, _, _ in members))
    labels = {key: label for _, _, facts in members for key, (label, _) in facts.items()}
    rows, columns = [], False
    for key, label in labels.items():
        values = [(kind, count, facts[key][1] if key in facts else None) for kind, count, facts in members]
        by_kind = {kind: {v for k, _, v in values if k == kind} for kind in kinds}
        if len({v for _, _, v in values}) == 1:
            rows.append([key, label, [values[0][2]]])
        elif any(len(found) > 1 for found in by_kind.values()):
            rows.append([key, label, [_mixed(values)]])
        elif len(kinds) > COLUMNS:
            rows += [[f"{key} {kind}", f"{label}, {kind}", [found.pop() or NOTHING]] for kind, found in by_kind.items()]
        else:
            rows.append([key, label, [found.pop() or NOTHING for found in by_kind.values()]])
            columns = True
    counts = {kind: sum(n for k, n, _ in members if k == kind) for kind in kinds}
    return [f"{kind} ×{counts[kind]}" for kind in kinds] if columns else [], rows


def _mixed(values: Sequence[tuple[str, Number, str | None]]) -> str:
    """'6,144 ×15, 12,288 ×20'; 'shared in 20 of 35' where the others have none."""
    counts: dict[str, Number] = {}
    for _, count, value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + count
    whole = sum(count for _, count, _ in values)
    if len(counts) == 1 and (count := next(iter(counts.values()))) != whole:
        said = next(iter(counts))
        return f"{count} of {whole} layers" if said == "yes" else f"{said} in {count} of {whole}"
    return ", ".join(f"{value} ×{count}" for value, count in counts.items())
