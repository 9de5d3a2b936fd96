"""The one loader: reads, inherits, overrides and checks model YAML, for the API, the command line and Hydra alike.

A model file starts from another with Hydra's own `defaults: [gemma-2b, _self_]`; what it then says is laid over
that as overrides are. A key that could have no effect (another one shadows it, or no layer is of its kind) is refused.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.algebra import Number, is_scalar, plain
from archlab.blocks import MIXERS, SECTIONS, Embedding, GatedMLP, Head, NormSection, RMSNorm
from archlab.config import named
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.paths import group_files
from archlab.spec import (
    MOST_LAYERS,
    Block,
    FieldType,
    Layer,
    ModelSpec,
    Residual,
    Stack,
    check_fields,
    fields_of,
    repeat_pattern,
)

MIXER = "attention"  # the mixer of a kind of layer that names none; `block: NAME` names one
KINDS = ("local", "global", "recurrent")  # kinds that a file may describe without using
PLAIN_KINDS = ("local", "global")  # kinds that may stand without a section
TOP = fields_of(ModelSpec)

_COUNTED = re.compile(r"^(?P<kind>[A-Za-z_]\w*)(?:\*(?P<times>[1-9]\d*))?$")


def models() -> list[str]:
    """Names of the presets, smaller sizes first within a family: 270m, 1b, 4b, 27b."""
    return sorted(group_files("model"), key=_by_size)


def _by_size(name: str) -> tuple[str, float, str]:
    size = re.search(r"-(\d+)(m|b)(?![a-z0-9])", name)
    if size is None:
        return name, 0.0, name
    return name[: size.start()] + name[size.end() :], float(size[1]) * (1e-3 if size[2] == "m" else 1), name


def load(model: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """A preset's name or the path of a model YAML, with dotted keys replaced: {"attention.n_kv_heads": 1}.

    Raises ArchlabError with one sentence for anything that cannot be.
    """
    data = read(model)
    if _is_path(model):
        with yamlfile.naming(model):
            resolve(data)
    return resolve(override(data, overrides or {}))


def read(model: str | Path) -> dict[str, Any]:
    """The keys of a preset or of a file, inheritance done; checked only by `resolve`."""
    if _is_path(model):
        return _inherit(Path(model), ())
    found = group_files("model")
    if str(model) not in found:
        raise UnknownNameError(f"unknown model {str(model)!r}{nearest(str(model), found)} (archlab models lists them)")
    path = found[str(model)]
    return copy.deepcopy(_preset(path, path.stat().st_mtime_ns))


def _is_path(model: str | Path) -> bool:
    return Path(model).suffix in (".yaml", ".yml", ".json") or "/" in str(model)


@lru_cache(maxsize=256)
def _preset(path: Path, _changed: int) -> dict[str, Any]:
    return named(_inherit(path, ()), path)


def _inherit(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.suffix == ".json":
        raise SpecError(f"{path} is JSON; this version reads model YAML (archlab new writes one to start from)")
    own = yamlfile.read(path)
    bases = own.pop("defaults", None)
    if bases is None:
        return own
    names = bases[:1] if isinstance(bases, list) and bases[1:] == ["_self_"] else []
    if not names or not isinstance(names[0], str):
        raise SpecError(f"{path}: defaults must be [MODEL, _self_], the one model that this file starts from")
    beside = path.parent / f"{names[0]}.yaml"
    base = beside if beside.is_file() else group_files("model").get(names[0])
    if base is None:
        raise UnknownNameError(f"{path}: unknown model {names[0]!r}{nearest(names[0], group_files('model'))}")
    if base in (path, *children):
        raise SpecError(f"{path}: defaults go round in a circle through {names[0]!r}")
    with yamlfile.naming(path):
        return override(_inherit(base, (path, *children)), _flat(own))


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """{'mlp': {'d_ff': 8}} -> {'mlp.d_ff': 8}."""
    flat: dict[str, Any] = {}
    for key, entry in data.items():
        if "." in key:
            section, _, name = key.partition(".")
            raise SpecError(f"key {key!r} must be written as {section}: {{{name}: ...}}")
        flat |= {f"{key}.{k}": v for k, v in entry.items()} if isinstance(entry, dict) else {key: entry}
    return flat


def override(data: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with dotted keys replaced; refuses a key that is unknown or would have no effect."""
    result = {k: dict(v) if isinstance(v, dict) else v for k, v in data.items()}
    for key, new in ((key, plain(new)) for key, new in changes.items()):
        section, _, name = key.partition(".")
        if not name:
            if section in SECTIONS or isinstance(result.get(section), dict):
                raise SpecError(f"{key} is a section; set a key of it, such as {key}.{_first_key(section)}")
            if section not in TOP:
                raise SpecError(f"unknown key {key}{nearest(key, known_keys(result))}")
            result[section] = new
        else:
            _check_key(result, section, name)
            result[section] = {**(result.get(section) or {}), name: new}
    refuse_shadowed(result, changes)
    return result


def known_keys(data: Mapping[str, Any]) -> list[str]:
    """Every dotted key that a model may set."""
    keys = list(TOP)
    for section in dict.fromkeys((*SECTIONS, *_kinds(data))):
        keys += [f"{section}.{name}" for name in fields_of(SECTIONS.get(section) or _mixer(data, section))]
    return keys


def field_of(data: Mapping[str, Any], key: str) -> dataclasses.Field:
    """The declaration of a dotted key: default, type and explanation. Raises SpecError for a key that is unknown."""
    section, _, name = key.partition(".")
    if not name:
        return TOP[section]
    _check_key(data, section, name)
    return fields_of(SECTIONS.get(section) or _mixer(data, section))[name]


def field_type(data: Mapping[str, Any], key: str) -> FieldType:
    """The type of a dotted key. Raises SpecError for a key that is unknown."""
    return field_of(data, key).metadata["type"]


def _first_key(section: str) -> str:
    return next(iter(fields_of(SECTIONS.get(section) or MIXERS[MIXER])))


def _check_key(data: Mapping[str, Any], section: str, name: str) -> None:
    kind = section in KINDS or section in _kinds(data)
    if section not in SECTIONS and not kind:
        raise SpecError(f"unknown key {section}.{name}{nearest(f'{section}.{name}', known_keys(data))}")
    known = fields_of(SECTIONS.get(section) or _mixer(data, section))
    if name not in known and not (kind and name == "block"):
        raise SpecError(f"unknown key {section}.{name}{nearest(name, known)} ({section} takes {', '.join(known)})")


def refuse_shadowed(data: Mapping[str, Any], changes: Iterable[str]) -> None:
    """Raises SpecError for a changed key that another key of the model takes the effect from."""
    changes = set(changes)
    kinds = _kinds(data)
    for key in changes:
        section, _, name = key.partition(".")
        if section == MIXER:
            above = [k for k in kinds if name in (data.get(k) or {}) and f"{k}.{name}" not in changes]
            if above:
                raise SpecError(
                    f"{key} would not reach the {above[0]} layers, which set {above[0]}.{name}; set that key"
                )
        elif name and section not in SECTIONS and section not in kinds:
            raise SpecError(f"{key} has no effect: no layer of the pattern {list(kinds)} is {section}")


def _kinds(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Distinct kinds of layer in the pattern."""
    pattern = data.get("pattern")
    entries = pattern if isinstance(pattern, list | tuple) else ()
    return tuple(dict.fromkeys(e.partition("*")[0] for e in entries if isinstance(e, str)))


def _mixer(data: Mapping[str, Any], kind: str) -> type[Block]:
    section = data.get(kind) or {}
    name = section.get("block", MIXER) if isinstance(section, dict) else MIXER
    if name not in MIXERS:
        raise SpecError(
            f"{kind}.block={name!r} is not a block{nearest(str(name), MIXERS)} (known: {', '.join(MIXERS)})"
        )
    return MIXERS[name]


def expand_pattern(entries: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """['local*5', 'global'] -> five locals and a global."""
    kinds: list[str] = []
    for entry in entries:
        found = _COUNTED.match(entry)
        if not found:
            raise SpecError(f"pattern entry {entry!r} must be a kind of layer or KIND*N, as local*5")
        times = int(found["times"] or 1)
        if len(kinds) + times > MOST_LAYERS:
            raise SpecError(f"pattern entry {entry!r} makes the pattern longer than {MOST_LAYERS:,} layers")
        kinds += [found["kind"]] * times
    return tuple(kinds)


def _check_kinds(kinds: Iterable[str], sections: Mapping[str, Any]) -> None:
    """Each kind is a known one, or has a section of its own: a misspelt kind would be a layer without its changes."""
    for kind in kinds:
        if kind in SECTIONS or kind in TOP:
            raise SpecError(f"pattern entry {kind!r} is the name of a section; call the kind of layer otherwise")
        if kind not in PLAIN_KINDS and kind not in sections:
            known = (*PLAIN_KINDS, *(s for s in sections if s not in SECTIONS))
            raise SpecError(f"pattern entry {kind!r} has no section {kind}{nearest(kind, known)}")


# ---------------------------------------------------------------- from keys to a spec


def resolve(data: Mapping[str, Any]) -> ModelSpec:
    """Checks the keys and assembles the spec. Raises SpecError with one sentence."""
    sections = _checked_sections(data)
    top = {k: v for k, v in data.items() if k in TOP}
    check_fields(ModelSpec, "", top)
    pattern = expand_pattern(top["pattern"])
    _check_kinds(dict.fromkeys(pattern), sections)
    _refuse_dead(sections, tuple(dict.fromkeys(pattern)))
    decoder = _stack(top, sections, pattern)
    spec = ModelSpec(**{**top, "pattern": pattern}, decoder=decoder, data=dict(data))
    for path, condition, sentence in rules(spec):
        if condition is False:
            raise SpecError(f"{path}: {sentence()}")
    return spec


def rules(spec: ModelSpec) -> Iterator[tuple[str, Any, Any]]:
    """(where, condition, sentence) of every rule of every block. On columns the condition is a mask."""
    for layer in spec.decoder.layers:
        for path, block in layer.blocks():
            where = layer.kind if path == MIXER and len(spec.decoder.layers) > 1 else path
            for condition, sentence in block.rules():
                yield where, condition, sentence


def _checked_sections(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The mappings of the file, each key known and of its type."""
    kinds = _kinds(data)
    sections: dict[str, dict[str, Any]] = {}
    for key, entry in data.items():
        if key in TOP:
            continue
        if key not in SECTIONS and key not in KINDS and key not in kinds:
            raise SpecError(f"unknown key {key}{nearest(key, [*TOP, *SECTIONS, *KINDS])}")
        if not isinstance(entry, dict):
            raise SpecError(f"{key} must be a section of keys, not {entry!r}")
        for name, value in entry.items():
            _check_key(data, key, name)
            if name != "block":
                fields_of(SECTIONS.get(key) or _mixer(data, key))[name].metadata["type"].check(f"{key}.{name}", value)
        sections[key] = entry
    return sections


def _refuse_dead(sections: Mapping[str, dict[str, Any]], kinds: tuple[str, ...]) -> None:
    for name in sections.get(MIXER, {}):
        if all(name in sections.get(kind, {}) for kind in kinds):
            raise SpecError(
                f"{MIXER}.{name} has no effect: {' and '.join(f'{k}.{name}' for k in kinds)} replace it; drop one"
            )


def _stack(top: Mapping[str, Any], sections: Mapping[str, dict[str, Any]], pattern: tuple[str, ...]) -> Stack:
    d_model, vocab_size = top["d_model"], top["vocab_size"]
    norms = _section(NormSection, "norm", sections)
    plus_one = norms.gain == "one_plus"
    norm = RMSNorm(d_model=d_model, eps=norms.eps, plus_one=plus_one)
    post = norm if norms.post else None
    mlp = Residual("mlp", _section(GatedMLP, "mlp", sections, d_model=d_model), norm, post)
    layers = []
    for kind, count in repeat_pattern(pattern, top["n_layers"]).items():
        mixer: Any = _mixer(sections, kind)
        keys = {**sections.get(MIXER, {}), **{k: v for k, v in sections.get(kind, {}).items() if k != "block"}}
        check_fields(mixer, MIXER, keys)
        block = mixer(d_model=d_model, norm_eps=norms.eps, norm_plus_one=plus_one, **keys)
        indices = _indices(pattern, kind, top["n_layers"])
        layers.append(Layer(kind, (Residual(MIXER, block, norm, post), mlp), count, indices))
    return Stack(
        embedding=_section(Embedding, "embedding", sections, d_model=d_model, vocab_size=vocab_size),
        layers=tuple(layer for layer in layers if layer.indices != ()),
        head=(("final_norm", norm), ("head", _section(Head, "head", sections, d_model=d_model, vocab_size=vocab_size))),
    )


def _section(schema: type, name: str, sections: Mapping[str, dict[str, Any]], **given: Any) -> Any:
    keys = sections.get(name, {})
    check_fields(schema, name, keys)
    return schema(**keys, **given)


def _indices(pattern: tuple[str, ...], kind: str, n_layers: Number) -> tuple[int, ...] | None:
    if not is_scalar(n_layers):
        return None
    return tuple(i for i in range(n_layers) if pattern[i % len(pattern)] == kind)
