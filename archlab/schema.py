"""The keys of a model file: which sections there are, what each takes, and how dotted keys replace them.

A model is a tree: top keys, sections that name blocks, kinds of layer, `spans` of layers, and further stacks
(`encoder`, `vision`, `audio`) with sections of their own. `encoder.attention.n_heads` is a path into it.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archlab.algebra import plain
from archlab.blocks import IN_LAYERS, MIXERS, OPTIONAL, SECTIONS, TOWER_SECTIONS
from archlab.errors import SpecError, nearest
from archlab.fields import MOST_LAYERS, FieldType, fields_of, flag, size, text
from archlab.layers import Block
from archlab.spec import ModelSpec

MIXER = "attention"  # the mixer of a kind of layer that names none; `block: NAME` names one
PLAIN_MIXER = MIXERS[MIXER]
KINDS = ("local", "global", "recurrent")  # kinds that a file may describe without using
PLAIN_KINDS = ("local", "global")  # kinds that may stand without a section
TOWERS = ("vision", "audio")
STACKS = ("encoder", *TOWERS)
SPANS = "spans"
TOP = fields_of(ModelSpec)
ENCODER_TOP = {name: TOP[name] for name in ("d_model", "n_layers", "vocab_size", "pattern")}
DECODER_ONLY = ("cross_attention", "head")

_COUNTED = re.compile(r"^(?P<kind>[A-Za-z_]\w*)(?:\*(?P<times>[1-9]\d*))?$")
_SLICE = re.compile(r"^\s*(?:(?P<one>-?\d+)|(?P<first>-?\d+)?:(?P<last>-?\d+)?)\s*$")


@dataclass(frozen=True)
class Tower:
    """What a tower says of itself, beside its sections."""

    d_model: int = size("width of the tower")
    n_layers: int = size("layers of the tower")
    final_norm: bool = flag("a norm after the last layer", True)
    token: int | None = size("token that stands in the sequence for each token of an image", None, none=True)


@dataclass(frozen=True)
class Span:
    """What a span says of itself, beside the sections that it changes."""

    layers: str | int = field(kw_only=True, metadata={
        "type": FieldType("text or a whole number", lambda x: isinstance(x, str | int) and not isinstance(x, bool)),
        "doc": "which layers, as Python slices: '20:', ':10', '-10:' or '3'; several with commas",
    })  # fmt: skip


@dataclass(frozen=True)
class KindSection:
    """The key that any kind of layer takes: which block mixes its tokens."""

    block: str = text("which block mixes tokens", MIXER)


@dataclass(frozen=True)
class Node:
    """A place in the tree: the fields that it takes, and the names of the sections below it."""

    fields: Mapping[str, dataclasses.Field]
    sections: tuple[str, ...] = ()
    free: bool = False  # names of the sections below are the writer's own


def node(data: Mapping[str, Any], path: tuple[str, ...]) -> Node | None:
    """The place at a path of section names; None where there is none."""
    if path and path[0] in TOWERS:
        return _tower(path[1:])
    if path and path[0] == "encoder":
        return _in_stack(encoder_tree(data), path[1:], ENCODER_TOP, DECODER_ONLY)
    found = _in_stack(data, path, TOP)
    return found if path or found is None else Node(found.fields, (*found.sections, *STACKS))


def _tower(path: tuple[str, ...]) -> Node | None:
    if not path:
        return Node(fields_of(Tower), tuple(TOWER_SECTIONS))
    return Node(fields_of(TOWER_SECTIONS[path[0]])) if len(path) == 1 and path[0] in TOWER_SECTIONS else None


def _in_stack(
    tree: Mapping[str, Any], path: tuple[str, ...], top: Mapping[str, dataclasses.Field], without: tuple[str, ...] = ()
) -> Node | None:
    """The place in an encoder's or a decoder's own tree."""
    if not path:
        return Node(top, (*(s for s in SECTIONS if s not in without), *kinds(tree), SPANS))
    if path[0] == SPANS:
        return _span(tree, path[1:], without)
    return _leaf(tree, path[0], SECTIONS, without) if len(path) == 1 else None


def _span(tree: Mapping[str, Any], path: tuple[str, ...], without: tuple[str, ...]) -> Node | None:
    spans = _mapping(tree.get(SPANS))
    if not path:
        return Node({}, tuple(spans), free=True)
    if len(path) == 1:
        return Node(fields_of(Span), (*(s for s in IN_LAYERS if s not in without), *kinds(tree)))
    changed = merged(tree, _mapping(spans.get(path[0])))  # a span may say which block a kind is
    return _leaf(changed, path[1], IN_LAYERS, without) if len(path) == 2 else None


def _leaf(tree: Mapping[str, Any], name: str, sections: Mapping[str, type], without: tuple[str, ...]) -> Node | None:
    if name in sections:
        return None if name in without else Node(fields_of(sections[name]))
    if name in KINDS or name in kinds(tree):
        return Node({**fields_of(mixer(tree, name)), **fields_of(KindSection)})
    return None


def _mapping(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {}


# ---------------------------------------------------------------- what a tree says


def kinds(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Distinct kinds of layer in the pattern."""
    return tuple(dict.fromkeys(entry.partition("*")[0] for entry in pattern_entries(data)))


def pattern_entries(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of the pattern that are words; none where it is no list."""
    pattern = data.get("pattern")
    return tuple(e for e in pattern if isinstance(e, str)) if isinstance(pattern, list | tuple) else ()


def mixer(data: Mapping[str, Any], kind: str) -> type[Block]:
    """The block that mixes tokens in a kind of layer. Raises SpecError for one that is unknown."""
    name = _mapping(data.get(kind)).get("block", MIXER)
    if not isinstance(name, str) or name not in MIXERS:
        raise SpecError(
            f"{kind}.block={name!r} is not a block{nearest(str(name), MIXERS)} (known: {', '.join(MIXERS)})"
        )
    return MIXERS[name]


NOT_INHERITED = ("name", "family", "source", "context", "notes", "encoder", *TOWERS, *DECODER_ONLY)


def encoder_tree(data: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's own tree: what it does not say it takes from the decoder, but for what only a decoder has."""
    base = {key: entry for key, entry in data.items() if key not in NOT_INHERITED}
    for section, name in (("attention", "source"), ("embedding", "shared")):
        if section in base:
            base[section] = {k: v for k, v in _mapping(base[section]).items() if k != name}
    return merged(base, _mapping(data.get("encoder")))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, section by section; null takes a section away."""
    result = dict(base)
    for key, entry in over.items():
        below = base.get(key)
        result[key] = merged(below, entry) if isinstance(entry, Mapping) and isinstance(below, Mapping) else entry
    return result


def in_span(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A stack's sections as the layers of a span have them: section < kind < the span's section < the span's kind."""
    told = {key: entry for key, entry in tree[SPANS][name].items() if key != "layers"}
    replaced = _mapping(told.get(MIXER))
    below = {
        kind: {key: value for key, value in tree[kind].items() if key not in replaced}
        for kind in kinds(tree)
        if isinstance(tree.get(kind), Mapping)
    }
    return merged({**tree, **below}, told)


def expand_pattern(entries: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """['local*5', 'global'] -> five locals and a global."""
    found: list[str] = []
    for entry in entries:
        match = _COUNTED.match(entry)
        if not match:
            raise SpecError(f"pattern entry {entry!r} must be a kind of layer or KIND*N, as local*5")
        times = int(match["times"] or 1)
        if len(found) + times > MOST_LAYERS:
            raise SpecError(f"pattern entry {entry!r} makes the pattern longer than {MOST_LAYERS:,} layers")
        found += [match["kind"]] * times
    return tuple(found)


def layers_of(told: str | int, n_layers: int, where: str) -> frozenset[int]:
    """'20:, 3' of 30 layers -> {3, 20, 21 ... 29}. Raises SpecError."""
    chosen: set[int] = set()
    for part in str(told).split(","):
        match = _SLICE.match(part)
        if not match:
            raise SpecError(f"{where}={told!r} must be layers as Python slices: '20:', ':10', '-10:' or '3'")
        if match["one"]:
            index = int(match["one"])
            found = [index % n_layers] if -n_layers <= index < n_layers else []
        else:
            found = [*range(n_layers)[slice(*(int(n) if n else None for n in (match["first"], match["last"])))]]
        if not found:
            of = "" if part == str(told) else f"{part.strip()!r} of "
            raise SpecError(f"{of}{where}={told!r} names no layer of the {n_layers}")
        chosen.update(found)
    return frozenset(chosen)


# ---------------------------------------------------------------- dotted keys


def known_keys(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """Every dotted key that a model may set; of further stacks and spans, those that it has."""
    place = node(data, path)
    if place is None:
        return []
    keys = [".".join((*path, name)) for name in place.fields]
    for section in place.sections:
        if section in (SPANS, *STACKS) and not data.get(section):
            continue
        keys += known_keys(data, (*path, section))
    return keys


def field_of(data: Mapping[str, Any], key: str) -> dataclasses.Field:
    """The declaration of a dotted key: default, type and explanation. Raises SpecError for a key that is unknown."""
    path = tuple(key.split("."))
    place = node(data, path[:-1])
    if place is None or path[-1] not in place.fields:
        raise _unknown(data, key)
    return place.fields[path[-1]]


def field_type(data: Mapping[str, Any], key: str) -> FieldType:
    """The type of a dotted key. Raises SpecError for a key that is unknown."""
    kind: FieldType = field_of(data, key).metadata["type"]
    return kind


def _unknown(data: Mapping[str, Any], key: str) -> SpecError:
    path = tuple(key.split("."))
    place = node(data, path[:-1])
    if place is None or not path[:-1]:
        return SpecError(f"unknown key {key}{nearest(key, known_keys(data))}")
    known = (*place.fields, *place.sections)
    return SpecError(f"unknown key {key}{nearest(path[-1], known)} ({'.'.join(path[:-1])} takes {', '.join(known)})")


def override(data: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with dotted keys replaced; refuses a key that is unknown or would have no effect.

    A section is set as {} (there, with its defaults) or null (taken away).
    """
    result = copy.deepcopy(data)
    for key, new in ((key, plain(new)) for key, new in changes.items()):
        path = tuple(key.split("."))
        section = node(result, path)
        if section is not None:
            _set_section(result, path, section, new)
            continue
        field_of(result, key)  # raises
        _at(result, path[:-1])[path[-1]] = new
    refuse_shadowed(result, changes)
    return result


def _set_section(result: dict[str, Any], path: tuple[str, ...], place: Node, new: Any) -> None:
    parent = _at(result, path[:-1])
    if new is None and (path[-1] in (*OPTIONAL, *STACKS) or SPANS in path):
        parent.pop(path[-1], None)
    elif isinstance(new, Mapping) and not new:
        parent.setdefault(path[-1], {})
    else:
        first = next(iter((*place.fields, *place.sections)))
        raise SpecError(f"{'.'.join(path)} is a section; set a key of it, such as {'.'.join((*path, first))}")


def _at(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The mapping at a path, made where it is not there."""
    for name in path:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    return tree


def flat(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """{'mlp': {'d_ff': 8}} -> ('mlp.d_ff', 8); an empty section comes as it is."""
    for key, entry in data.items():
        if not isinstance(key, str) or "." in key:
            section, _, name = str(key).partition(".")
            raise SpecError(f"key {key!r} must be written as {section}: {{{name or '...'}: ...}}")
        if isinstance(entry, Mapping) and entry:
            yield from flat(entry, f"{path}{key}.")
        else:
            yield f"{path}{key}", entry


def refuse_shadowed(data: Mapping[str, Any], changes: Iterable[str]) -> None:
    """Raises SpecError for a changed key that another key of the model takes the effect from."""
    changes = set(changes)
    for tower in TOWERS:
        known = _mapping(_mapping(data.get(tower)).get("counted"))
        if known and "d_model" in changes and f"{tower}.counted.projector" not in changes:
            raise SpecError(
                f"d_model would not reach the projector of {tower}, which is known by number; set "
                f"{tower}.counted.projector too, or {tower}=null"
            )
    for key in sorted(changes):
        prefix = "encoder." if key.startswith("encoder.") else ""
        tree = encoder_tree(data) if prefix else data
        path = tuple(key.removeprefix(prefix).split("."))
        used = kinds(tree)
        if len(path) == 2 and path[0] in KINDS and path[0] not in used:
            raise SpecError(f"{key} has no effect: no layer of the pattern {list(used)} is {path[0]}")
        for above, whose in _above(tree, path, used):
            if _says(tree, above) and prefix + ".".join(above) not in changes:
                raise SpecError(f"{key} would not reach the {whose} {prefix}{'.'.join(above)}; set that key")


def _above(
    tree: Mapping[str, Any], path: tuple[str, ...], used: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What would replace a key, were it there, and in which layers: (path, 'local layers, which set')."""
    *place, section, name = path if len(path) > 1 else ("", *path)
    if section == MIXER:
        for kind in used:
            yield (*place, kind, name), f"{kind} layers, which set"
    if place:
        return
    for span in _mapping(tree.get(SPANS)):
        within = _kinds_within(tree, span)
        over: tuple[str, ...] = (section,)
        if section == MIXER:
            over = (MIXER, *within)
        elif section in used:
            over = (MIXER, section) if section in within else ()
        for above in over:
            yield (SPANS, span, above, name), f"layers of span {span}, which sets"


def _says(tree: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    entry: Any = tree
    for name in path[:-1]:
        entry = _mapping(_mapping(entry).get(name))
    return path[-1] in entry


def _kinds_within(tree: Mapping[str, Any], span: str) -> tuple[str, ...]:
    """Kinds of the layers of a span; all kinds where its layers cannot be told."""
    n_layers, told = tree.get("n_layers"), _mapping(tree[SPANS][span]).get("layers")
    pattern = expand_pattern(pattern_entries(tree))
    if not (pattern and isinstance(told, str | int) and isinstance(n_layers, int) and 0 < n_layers <= MOST_LAYERS):
        return kinds(tree)
    layers = layers_of(told, n_layers, f"{SPANS}.{span}.layers")
    return tuple(dict.fromkeys(pattern[index % len(pattern)] for index in sorted(layers)))


def check_tree(data: Mapping[str, Any]) -> None:
    """Raises SpecError for a key that is unknown, of the wrong type, or a section that is none."""
    for key in data:
        if key not in TOP and node(data, (key,)) is None:
            known = [*TOP, *SECTIONS, *KINDS, SPANS, *STACKS]
            raise SpecError(f"unknown key {key}{nearest(str(key), known)}")
    _check_below(data, data, ())


def _check_below(data: Mapping[str, Any], tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
    for key, entry in tree.items():
        inner = (*path, str(key))
        if node(data, inner) is not None:
            if not isinstance(entry, Mapping):
                raise SpecError(f"{'.'.join(inner)} must be a section of keys, not {entry!r}")
            _check_below(data, entry, inner)
        else:
            field_type(data, ".".join(inner)).check(".".join(inner), entry)


def check_kinds(used: Iterable[str], sections: Mapping[str, Any]) -> None:
    """Each kind is a known one, or has a section of its own: a misspelt kind would be a layer without its changes."""
    for kind in used:
        if kind in SECTIONS or kind in TOP or kind in (SPANS, *STACKS):
            raise SpecError(f"pattern entry {kind!r} is the name of a section; call the kind of layer otherwise")
        if kind not in PLAIN_KINDS and kind not in sections:
            known = (*PLAIN_KINDS, *(s for s in sections if isinstance(sections[s], Mapping) and s not in SECTIONS))
            raise SpecError(f"pattern entry {kind!r} has no section {kind}{nearest(kind, known)}")


def refuse_dead(tree: Mapping[str, Any], own: Mapping[str, Any], prefix: str = "") -> None:
    """Raises SpecError for a shared attention key of a stack's own that every kind of layer replaces."""
    used = kinds(tree)
    for name in _mapping(own.get(MIXER)):
        if used and all(name in _mapping(tree.get(kind)) for kind in used):
            above = " and ".join(f"{prefix}{kind}.{name}" for kind in used)
            raise SpecError(f"{prefix}{MIXER}.{name} has no effect: {above} replace it; drop one")


def check_span(tree: Mapping[str, Any], name: str, within: Iterable[str], where: str) -> None:
    """Raises SpecError for a span that changes nothing, or says what no layer of it (of the kinds `within`) takes."""
    entry, within = tree[SPANS][name], set(within)
    told = {section: keys for section, keys in entry.items() if section != "layers"}
    if not any(keys or section in OPTIONAL for section, keys in told.items()):
        raise SpecError(f"{where} changes nothing; set a key of a section in it, such as {where}.mlp.d_ff")
    for section in told:
        if section not in IN_LAYERS and section not in within:
            raise SpecError(
                f"{where}.{section} has no effect: the layers {entry['layers']} are {' and '.join(sorted(within))}"
            )
    changed = in_span(tree, name)
    for key in _mapping(told.get(MIXER)):
        if not any(key in fields_of(mixer(changed, k)) and key not in _mapping(told.get(k)) for k in within):
            raise SpecError(f"{where}.{MIXER}.{key} has no effect: no {' or '.join(sorted(within))} layer takes it")
