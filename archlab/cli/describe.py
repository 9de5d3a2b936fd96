"""The architecture on one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from archlab.analyzers.diagram_words import sharing
from archlab.analyzers.flops import flops
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import Params, params, weight_bytes
from archlab.analyzers.special import short, special
from archlab.assemble import resolve
from archlab.cli.screen import bold, dim, table
from archlab.layers import Stack
from archlab.precision import load_precision
from archlab.schema import flat, override
from archlab.spec import ModelSpec
from archlab.units import GIB, show_bytes, show_count, show_tokens
from archlab.workload import Workload

CONTEXTS = (8192, 32768, 131072)
INDENT = " " * 12


def facts(spec: ModelSpec, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the screen shows, as numbers: exact counts, bytes, FLOPs. `changed` are the overrides behind `spec`."""
    counted = params(spec)
    layers = [_layer(layer) for layer in spec.decoder.layers]
    return {
        "name": spec.name,
        "changed": dict(changed or {}),
        "family": spec.family,
        "sort": sort_of(spec),
        "source": spec.source,
        "notes": None if spec.notes == "none" else spec.notes,
        "params": counted.total,
        "params_by_part": counted.by_part,
        "params_by_stack": counted.by_stack,
        "params_active": counted.active,
        "params_effective": counted.effective,
        "params_checkpoint": counted.checkpoint,
        "weights_bytes_bf16": weight_bytes(spec, load_precision("bf16")),
        "d_model": spec.d_model,
        "d_ff": layers[0].get("d_ff"),
        "vocab_size": spec.vocab_size,
        "context": spec.context,
        "tied": "head" not in counted.by_part and spec.decodes,
        "layers": layers,
        "pattern": list(spec.pattern),
        "n_layers": spec.n_layers,
        "towers": [_tower(stack, counted) for stack in spec.stacks if stack.reads == "images"],
        "special": [asdict(item) for item in special(spec)],
        "at_context": [_at(spec, context) for context in sorted({*CONTEXTS, spec.context}) if _takes(spec, context)],
    }


def sort_of(spec: ModelSpec) -> str:
    """decoder | encoder-decoder | encoder, and what else it reads."""
    stack = "encoder-decoder" if spec.encoder else "decoder" if spec.decodes else "encoder"
    senses = [stack.name for stack in spec.stacks if stack.reads == "images"]
    return f"{stack} with {' and '.join(senses)}" if senses else stack


def _layer(layer: Any) -> dict[str, Any]:
    return {"kind": layer.kind, "spans": list(layer.spans), "count": layer.count} | layer.facts()


def _tower(stack: Stack, counted: Params) -> dict[str, Any]:
    """A tower's size, and what it makes of an image."""
    own = counted.by_stack[stack.name]
    said = next(iter(stack.before))[1].facts()
    told = {
        "name": stack.name,
        "params": own.get(stack.name, 0),
        "projector": own.get("projector", 0),
        "runs": not stack.counted,
    }
    layers = None if stack.counted else stack.layers[0].count
    return told | {"tokens": stack.tokens, "n_layers": layers, **said}


def _takes(spec: ModelSpec, context: int) -> bool:
    """Whether the model can be given so many tokens; a table of positions ends."""
    return all(condition is not False for condition, _ in spec.work_rules(Workload(context=context)))


def _at(spec: ModelSpec, context: int) -> dict[str, Any]:
    source = context if spec.encoder else 0
    step = Workload(1, new=1 if spec.decodes else context, context=context, source=source, new_source=0)
    return {
        "context": context,
        "beyond_trained": context > spec.context,
        "kv_cache_bytes_bf16": kv_cache(spec, context, source=source).total,
        "kv_cache_bytes_bf16_all_global": kv_cache(_all_global(spec), context, source=source).total,
        "flops_per_token": flops(spec, step).total if spec.decodes else flops(spec, step).total / context,
    }


def _all_global(spec: ModelSpec) -> ModelSpec:
    """The same model without windows: what full attention in every layer would hold."""
    sections = ("attention", *dict.fromkeys(spec.pattern), "spans")
    own = {name: spec.data[name] for name in sections if spec.data.get(name)}
    keys = [key for key, _ in flat(own) if key.endswith(".window")]
    return resolve(override(dict(spec.data), dict.fromkeys(keys))) if spec.decodes else spec


def screen(spec: ModelSpec, changed: Mapping[str, Any] | None = None) -> str:
    """The screen, at most 80 columns wide."""
    found = facts(spec, changed)
    lines = [
        f"{bold(spec.name)}   {spec.family} {found['sort']}",
        f"size        {show_count(found['params'])} parameters   {show_bytes(found['weights_bytes_bf16'])} in bf16",
        *wrap("changed     " + ", ".join(f"{k}={_shown(v)}" for k, v in found["changed"].items()) if changed else ""),
        *_counts(found),
        *wrap(f"layers      {_layers(found)}   {pattern_text(spec)}", hang=INDENT),
        *_attention(found),
        *wrap(
            f"width       d_model {spec.d_model:,}   d_ff {found['d_ff']:,}   vocabulary {spec.vocab_size:,}   "
            f"context {show_tokens(spec.context)}",
            hang=INDENT,
        ),
        *_encoder(spec),
        *_towers(found),
        *_special(spec),
        "",
        _parts(found),
        "",
        _contexts(spec, found),
    ]
    if found["notes"] and not changed:
        lines += ["", *wrap(f"note: {found['notes']}")]
    origin = f"source: {spec.source}" + ("; of the shape before the change" if changed else "")
    return "\n".join([*lines, "", *(dim(line) for line in wrap(origin))])


def _shown(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def wrap(text: str, width: int = 80, hang: str = "  ") -> list[str]:
    """Lines of at most so many columns."""
    return textwrap.wrap(text, width, subsequent_indent=hang, drop_whitespace=True)


def _counts(found: dict[str, Any]) -> list[str]:
    """What is active, or effective, where that is not the total."""
    text = found["params"] - sum(t["params"] + t["projector"] for t in found["towers"])
    said = []
    if found["params_active"] != text:
        said.append(f"{show_count(found['params_active'])} active: the decoder with the experts that one token reaches")
    if found["params_effective"] != text:
        said.append(
            f"{show_count(found['params_effective'])} effective: the decoder without the table of per-layer embeddings"
        )
    return [line for words in said for line in wrap(f"of which    {words}", hang=INDENT)]


def _layers(found: dict[str, Any]) -> str:
    kinds: dict[str, int] = {}
    for layer in found["layers"]:
        window = f" (window {layer['window']:,})" if layer["window"] else ""
        kinds[f"{layer['kind']}{window}"] = kinds.get(f"{layer['kind']}{window}", 0) + layer["count"]
    said = [f"{count} {kind}" for kind, count in kinds.items()]
    return f"{found['n_layers']}: " + " + ".join(said) if len(said) > 1 else said[0]


def pattern_text(spec: ModelSpec) -> str:
    """'LLLLLG x10 LL': the period by first letters, how often, and what is left."""
    letters = "".join(kind[0].upper() for kind in spec.pattern)
    whole, rest = divmod(spec.n_layers, len(letters))
    return " ".join(filter(None, [f"{letters} x{whole}" if whole else "", letters[:rest]]))


def _attention(found: dict[str, Any]) -> list[str]:
    """One line where all kinds have the same heads, else one a kind."""
    lines: dict[str, str] = {}
    for layer in found["layers"]:
        if "n_kv_heads" not in layer:
            continue
        extras = ["QK-norm"] if layer["qk_norm"] else []
        extras += ["V-norm"] if layer["v_norm"] else []
        extras += [f"soft-cap {layer['softcap']:g}"] if layer["softcap"] else []
        heads = f"{layer['n_heads']} query / {layer['n_kv_heads']} KV heads x {layer['head_dim']}"
        shared = sharing(layer["n_heads"], layer["n_kv_heads"])
        lines.setdefault(layer["kind"], ", ".join([heads, shared, *extras]))
    if len(set(lines.values())) == 1:
        return [f"attention   {next(iter(lines.values()))}"]
    return [f"attention   {kind}: {line}" for kind, line in lines.items()]


def _encoder(spec: ModelSpec) -> list[str]:
    """The encoder's layers and widths."""
    if spec.encoder is None:
        return []
    first = spec.encoder.layers[0].facts()
    count = sum(layer.count for layer in spec.encoder.layers)
    width = spec.encoder.before[0][1].facts() | {"d_model": spec.encoder.before[0][1].d_model}  # type: ignore[attr-defined]
    heads = f"{first['n_heads']} query / {first['n_kv_heads']} KV heads x {first['head_dim']}"
    return wrap(
        f"encoder     {count} layers   d_model {width['d_model']:,}   d_ff {first['d_ff']:,}   {heads}", hang=INDENT
    )


def _towers(found: dict[str, Any]) -> list[str]:
    lines = []
    for tower in found["towers"]:
        own = f"{show_count(tower['params'])} parameters, " if tower["params"] else ""
        size = f"{own}{show_count(tower['projector'])} to project"
        if tower["runs"]:
            image = f"{tower['image_size']} px in patches of {tower['patch_size']}, {tower['tokens']} tokens an image"
            words = f"{tower['n_layers']} layers, {image}; {size}"
        else:
            words = f"{tower['what']}: {size}; counted, not run"
        lines += wrap(f"{tower['name']:<12}{words}", hang=INDENT)
    return lines


def _special(spec: ModelSpec) -> list[str]:
    lines: list[str] = []
    for item in special(spec):
        lines += wrap(f"{INDENT if lines else 'special     '}{item}", hang=INDENT + "  ")
    return lines


def _parts(found: dict[str, Any]) -> str:
    rows = []
    for part, count in found["params_by_part"].items():
        share = count / found["params"]
        tied = "  tied with output" if part == "embedding" and found["tied"] else ""
        rows.append([f"  {part}", show_count(count), f"{share:.1%}", "#" * round(share * 40) + tied])
    return table(["  part", "parameters", "share", ""], rows, left=(0, 3))


def _contexts(spec: ModelSpec, found: dict[str, Any]) -> str:
    rows = []
    for at in found["at_context"]:
        mark = " *" if at["beyond_trained"] else ""
        cache = [show_bytes(at["kv_cache_bytes_bf16"]), show_bytes(at["kv_cache_bytes_bf16_all_global"])]
        rows.append(
            [
                f"  {show_tokens(at['context'])}{mark}",
                *(cache if spec.decodes else []),
                f"{at['flops_per_token'] / 1e9:,.2f}",
            ]
        )
    head = ["  context", *(["KV cache, bf16", "if all global"] if spec.decodes else []), "GFLOP/token"]
    text = table(head, rows)
    if spec.encoder is not None:
        said = "  the decoder's, with a source of as many tokens, whose K/V is in the cache"
        text += "\n" + "\n".join(dim(line) for line in wrap(said))
    beyond = any(at["beyond_trained"] for at in found["at_context"])
    return text + (f"\n{dim('  * beyond the trained context')}" if beyond else "")


def comparison(specs: list[ModelSpec]) -> str:
    """Models as rows of one table, and what sets each apart."""
    rows, apart = [], []
    for spec in specs:
        found = facts(spec)
        near, far = (_at(spec, context) if _takes(spec, context) else None for context in (CONTEXTS[0], CONTEXTS[-1]))
        heads = next(layer for layer in found["layers"] if "n_heads" in layer and "n_kv_heads" in layer)
        window = next((str(layer["window"]) for layer in found["layers"] if layer["window"]), "-")
        rows.append([
            spec.name, show_count(found["params"]), f"{found['weights_bytes_bf16'] / GIB:.2f}", str(spec.n_layers),
            window, f"{heads['n_heads']}/{heads['n_kv_heads']}x{heads['head_dim']}",
            *(f"{at['kv_cache_bytes_bf16'] / GIB:.2f}" if at and spec.decodes else "-" for at in (near, far)),
            f"{near['flops_per_token'] / 1e9:.1f}" if near and spec.decodes else "-",
        ])  # fmt: skip
        alone = [] if spec.decodes else ["encoder (decodes nothing, keeps no cache)"]
        words = [*alone, *_heads_apart(found), *_active(found), *short(spec)]
        apart += wrap(f"{spec.name}: {', '.join(words)}") if words else []
    head = ["model", "params", "GiB", "layers", "window", "heads", "KV 8k", "KV128k", "GFLOP"]
    legend = "GiB: weights, bf16; KV: cache in GiB, bf16, batch 1; GFLOP: a token at 8k"
    legend += "; with a source as long, for an encoder-decoder" if any(spec.encoder for spec in specs) else ""
    return "\n".join([table(head, rows), *(dim(line) for line in wrap(legend)), *([""] if apart else []), *apart])


def _heads_apart(found: dict[str, Any]) -> list[str]:
    """The heads of each kind, where kinds differ: the table has room for the first."""
    kinds = {layer["kind"]: layer for layer in found["layers"] if "n_kv_heads" in layer}
    heads = {kind: f"{o['n_heads']}/{o['n_kv_heads']}x{o['head_dim']}" for kind, o in kinds.items()}
    return [f"{text} {kind}" for kind, text in heads.items()] if len(set(heads.values())) > 1 else []


def _active(found: dict[str, Any]) -> list[str]:
    text = found["params"] - sum(t["params"] + t["projector"] for t in found["towers"])
    said = [f"{show_count(found['params_active'])} active"] if found["params_active"] != text else []
    return said + ([f"{show_count(found['params_effective'])} effective"] if found["params_effective"] != text else [])
