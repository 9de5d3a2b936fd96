"""The architecture on one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from archlab.analyzers.flops import flops
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import params, weight_bytes
from archlab.assemble import resolve
from archlab.cli.screen import bold, dim, table
from archlab.config import load_precision
from archlab.schema import override
from archlab.spec import ModelSpec, Workload
from archlab.units import GIB, show_bytes, show_count, show_tokens

CONTEXTS = (8192, 32768, 131072)


def facts(spec: ModelSpec, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the screen shows, as numbers: exact counts, bytes, FLOPs. `changed` are the overrides behind `spec`."""
    counted = params(spec)
    layers = [{"kind": layer.kind, "count": layer.count} | layer.facts() for layer in spec.decoder.layers]
    return {
        "name": spec.name,
        "changed": dict(changed or {}),
        "family": spec.family,
        "source": spec.source,
        "notes": None if spec.notes == "none" else spec.notes,
        "params": counted.total,
        "params_by_part": counted.by_part,
        "weights_bytes_bf16": weight_bytes(spec, load_precision("bf16")),
        "d_model": spec.d_model,
        "d_ff": layers[0].get("d_ff"),
        "vocab_size": spec.vocab_size,
        "context": spec.context,
        "tied": "head" not in counted.by_part,
        "layers": layers,
        "pattern": list(spec.pattern),
        "n_layers": spec.n_layers,
        "at_context": [_at(spec, context) for context in CONTEXTS],
    }


def _at(spec: ModelSpec, context: int) -> dict[str, Any]:
    step = flops(spec, Workload(1, new=1, context=context))
    return {
        "context": context,
        "beyond_trained": context > spec.context,
        "kv_cache_bytes_bf16": kv_cache(spec, context).total,
        "kv_cache_bytes_bf16_all_global": kv_cache(_all_global(spec), context).total,
        "flops_per_token": step.total,
    }


def _all_global(spec: ModelSpec) -> ModelSpec:
    """The same model without windows: what full attention in every layer would hold."""
    windowed = [kind for kind in dict.fromkeys(spec.pattern) if "window" in spec.data.get(kind, {})]
    keys = [f"{kind}.window" for kind in windowed]
    keys += ["attention.window"] if "window" in spec.data.get("attention", {}) else []
    return resolve(override(dict(spec.data), dict.fromkeys(keys)))


def screen(spec: ModelSpec, changed: Mapping[str, Any] | None = None) -> str:
    """The screen, at most 80 columns wide."""
    found = facts(spec, changed)
    lines = [
        f"{bold(spec.name)}   {spec.family} decoder   {show_count(found['params'])} parameters   "
        f"{show_bytes(found['weights_bytes_bf16'])} in bf16",
        *wrap("changed     " + ", ".join(f"{k}={_shown(v)}" for k, v in found["changed"].items()) if changed else ""),
        f"layers      {_layers(found)}   {pattern_text(spec)}",
        *_attention(found),
        f"width       d_model {spec.d_model:,}   d_ff {found['d_ff']:,}   vocabulary {spec.vocab_size:,}   "
        f"context {show_tokens(spec.context)}",
        "",
        _parts(found),
        "",
        _contexts(found),
    ]
    if found["notes"] and not changed:
        lines += ["", *wrap(f"note: {found['notes']}")]
    origin = f"source: {spec.source}" + ("; of the shape before the change" if changed else "")
    return "\n".join([*lines, "", *(dim(line) for line in wrap(origin))])


def _shown(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def wrap(text: str, width: int = 80) -> list[str]:
    """Lines of at most so many columns."""
    return textwrap.wrap(text, width, subsequent_indent="  ")


def _layers(found: dict[str, Any]) -> str:
    kinds = []
    for layer in found["layers"]:
        window = f" (window {layer['window']:,})" if layer["window"] else ""
        kinds.append(f"{layer['count']} {layer['kind']}{window}")
    return f"{found['n_layers']}: " + " + ".join(kinds) if len(kinds) > 1 else kinds[0]


def pattern_text(spec: ModelSpec) -> str:
    """'LLLLLG x10 LL': the period by first letters, how often, and what is left."""
    letters = "".join(kind[0].upper() for kind in spec.pattern)
    whole, rest = divmod(spec.n_layers, len(letters))
    return " ".join(filter(None, [f"{letters} x{whole}" if whole else "", letters[:rest]]))


def _attention(found: dict[str, Any]) -> list[str]:
    """One line where all kinds have the same heads, else one a kind."""
    lines = []
    for layer in found["layers"]:
        sharing = {1: "MQA", layer["n_heads"]: "MHA"}.get(layer["n_kv_heads"], "GQA")
        extras = ["QK-norm"] if layer["qk_norm"] else []
        extras += [f"soft-cap {layer['softcap']:g}"] if layer["softcap"] else []
        heads = f"{layer['n_heads']} query / {layer['n_kv_heads']} KV heads x {layer['head_dim']}, {sharing}"
        lines.append(", ".join([heads, *extras]))
    if len(set(lines)) == 1:
        return [f"attention   {lines[0]}"]
    return [f"attention   {layer['kind']}: {line}" for layer, line in zip(found["layers"], lines, strict=True)]


def _parts(found: dict[str, Any]) -> str:
    rows = []
    for part, count in found["params_by_part"].items():
        share = count / found["params"]
        tied = "  tied with output" if part == "embedding" and found["tied"] else ""
        rows.append([f"  {part}", show_count(count), f"{share:.1%}", "#" * round(share * 40) + tied])
    return table(["  part", "parameters", "share", ""], rows, left=(0, 3))


def _contexts(found: dict[str, Any]) -> str:
    rows = []
    for at in found["at_context"]:
        mark = " *" if at["beyond_trained"] else ""
        rows.append(
            [
                f"  {show_tokens(at['context'])}{mark}",
                show_bytes(at["kv_cache_bytes_bf16"]),
                show_bytes(at["kv_cache_bytes_bf16_all_global"]),
                f"{at['flops_per_token'] / 1e9:,.2f}",
            ]
        )
    text = table(["  context", "KV cache, bf16", "if all global", "GFLOP/token"], rows)
    beyond = any(at["beyond_trained"] for at in found["at_context"])
    return text + (f"\n{dim('  * beyond the trained context')}" if beyond else "")


def comparison(specs: list[ModelSpec]) -> str:
    """Models as rows of one table."""
    rows = []
    for spec in specs:
        found = facts(spec)
        near, _, far = found["at_context"]
        heads = found["layers"][0]
        window = next((str(layer["window"]) for layer in found["layers"] if layer["window"]), "-")
        rows.append([
            spec.name, show_count(found["params"]), f"{found['weights_bytes_bf16'] / GIB:.2f}", str(spec.n_layers),
            window, f"{heads['n_heads']}/{heads['n_kv_heads']}x{heads['head_dim']}",
            f"{near['kv_cache_bytes_bf16'] / GIB:.2f}", f"{far['kv_cache_bytes_bf16'] / GIB:.2f}",
            f"{near['flops_per_token'] / 1e9:.1f}",
        ])  # fmt: skip
    head = ["model", "params", "GiB", "layers", "window", "heads", "KV 8k", "KV128k", "GFLOP"]
    return table(head, rows) + "\n" + dim("GiB: weights, bf16; KV: cache in GiB, bf16, batch 1; GFLOP: a token at 8k")
