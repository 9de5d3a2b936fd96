"""The keys of a model file: which sections there are, what each takes, and how dotted keys replace them.

A model is a tree: top keys, sections that name blocks, kinds of layer, `spans` of layers, and further stacks
(`encoder`, `vision`, `audio`) with sections of their own. `encoder.attention.n_heads` is a path into it.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archlab.algebra import plain
from archlab.blocks import IN_LAYERS, MIXERS, OPTIONAL, SECTIONS, TOWER_SECTIONS
from archlab.errors import SpecError, nearest
from archlab.spec import MOST_LAYERS, Block, FieldType, ModelSpec, fields_of, flag, size, text

MIXER = "attention"  # the mixer of a kind of layer that names none; `block: NAME` names one
KINDS = ("local", "global", "recurrent")  # kinds that a file may describe without using
PLAIN_KINDS = ("local", "global")  # kinds that may stand without a section
TOWERS = ("vision", "audio")
STACKS = ("encoder", *TOWERS)
SPANS = "spans"
TOP = fields_of(ModelSpec)
ENCODER_TOP = {name: TOP[name] for name in ("d_model", "n_layers", "vocab_size", "pattern")}

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

    layers: str = text("which layers, as Python slices: '20:', ':10', '-10:' or '3'; several with commas")


@dataclass(frozen=True)
class Block_(Block):
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
    if not path:
        return Node(TOP, (*SECTIONS, *_kind_names(data), SPANS, *STACKS))
    head, rest = path[0], path[1:]
    if head in TOWERS:
        return _tower(rest)
    if head == "encoder":
        tree = encoder_tree(data)
        inner = Node(ENCODER_TOP, (*SECTIONS, *_kind_names(tree), SPANS)) if not rest else None
        return inner or (None if rest[0] in STACKS else node(tree, rest))
    if head == SPANS:
        return _span(data, rest)
    return None if rest else _leaf(data, head, SECTIONS)


def _tower(path: tuple[str, ...]) -> Node | None:
    if not path:
        return Node(fields_of(Tower), tuple(TOWER_SECTIONS))
    return Node(fields_of(TOWER_SECTIONS[path[0]])) if len(path) == 1 and path[0] in TOWER_SECTIONS else None


def _span(data: Mapping[str, Any], path: tuple[str, ...]) -> Node | None:
    if not path:
        return Node({}, tuple(_mapping(data.get(SPANS))), free=True)
    if len(path) == 1:
        return Node(fields_of(Span), (*IN_LAYERS, *kinds(data)))
    return _leaf(data, path[1], IN_LAYERS) if len(path) == 2 else None


def _leaf(data: Mapping[str, Any], name: str, sections: Mapping[str, type]) -> Node | None:
    if name in sections:
        return Node(fields_of(sections[name]))
    if name in KINDS or name in kinds(data):
        return Node({**fields_of(mixer(data, name)), **fields_of(Block_)})
    return None


def _kind_names(data: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kinds(data)))


def _mapping(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {}


# ---------------------------------------------------------------- what a tree says


def kinds(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Distinct kinds of layer in the pattern."""
    pattern = data.get("pattern")
    entries = pattern if isinstance(pattern, list | tuple) else ()
    return tuple(dict.fromkeys(e.partition("*")[0] for e in entries if isinstance(e, str)))


def mixer(data: Mapping[str, Any], kind: str) -> type[Block]:
    """The block that mixes tokens in a kind of layer. Raises SpecError for one that is unknown."""
    name = _mapping(data.get(kind)).get("block", MIXER)
    if not isinstance(name, str) or name not in MIXERS:
        raise SpecError(
            f"{kind}.block={name!r} is not a block{nearest(str(name), MIXERS)} (known: {', '.join(MIXERS)})"
        )
    return MIXERS[name]


NOT_INHERITED = ("name", "family", "source", "context", "notes", "encoder", *TOWERS, "cross_attention", "head")


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


def layers_of(text: str, n_layers: int, where: str) -> frozenset[int]:
    """'20:, 3' of 30 layers -> {3, 20, 21 ... 29}. Raises SpecError."""
    chosen: set[int] = set()
    for part in text.split(","):
        match = _SLICE.match(part)
        if not match:
            raise SpecError(f"{where}={text!r} must be layers as Python slices: '20:', ':10', '-10:' or '3'")
        if match["one"]:
            chosen |= {*range(n_layers)[int(match["one"]) :][:1]}
        else:
            chosen |= {*range(n_layers)[slice(*(int(n) if n else None for n in (match["first"], match["last"])))]}
    if not chosen:
        raise SpecError(f"{where}={text!r} names no layer of the {n_layers}")
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
    used = kinds(data)
    for key in changes:
        section, _, name = key.partition(".")
        if section == MIXER:
            above = [k for k in used if name in _mapping(data.get(k)) and f"{k}.{name}" not in changes]
            if above:
                raise SpecError(
                    f"{key} would not reach the {above[0]} layers, which set {above[0]}.{name}; set that key"
                )
        elif name and section in KINDS and section not in used:
            raise SpecError(f"{key} has no effect: no layer of the pattern {list(used)} is {section}")
        for span, entry in _mapping(data.get(SPANS)).items():
            inner = f"{SPANS}.{span}.{key}"
            if name in _mapping(_mapping(entry).get(section)) and inner not in changes:
                raise SpecError(f"{key} would not reach the layers of span {span}, which sets {inner}; set that key")


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


def refuse_dead(data: Mapping[str, Any]) -> None:
    """Raises SpecError for a shared attention key that every kind of layer replaces."""
    used = kinds(data)
    for name in _mapping(data.get(MIXER)):
        if used and all(name in _mapping(data.get(kind)) for kind in used):
            raise SpecError(
                f"{MIXER}.{name} has no effect: {' and '.join(f'{k}.{name}' for k in used)} replace it; drop one"
            )
