"""Precisions: conf/precision/*.yaml -> a rule from a weight's role, shape and place to a format.

    weights: bf16                                           one format for all, by name or by its keys
    weights:                                                or rules; the first that holds decides
      - {use: vector, format: fp32}
      - {role: embedding, model: tied, format: q6_k}
      - {role: [v, down], layers: more_bits, format: q6_k}
      - {format: {bits: 4, group: 128, scales: 16}}

A rule says which weights it is for: `use`, `role`, `part` and `stack` as the rows have them, `path` as a pattern,
`layers` a word for places among the layers, `model` a word for what the model is. A format's rows may fall back to
another format (formats.py), so a shape decides too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archlab import blocks, yamlfile
from archlab.algebra import Number, floor_div, where
from archlab.config import group_file
from archlab.errors import SpecError, nearest
from archlab.fields import FieldType, check_fields, choice, names, text
from archlab.formats import FORMATS, Format, format_named
from archlab.layers import Block
from archlab.paths import data_dir, group_files
from archlab.rows import State, Weight
from archlab.spec import ModelSpec

if TYPE_CHECKING:
    from archlab.ledger import Entry, Ledger

COMPUTE = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4")

ENGINE_NAMES = ("ideal", "hf", "vllm", "llama_cpp")
"""What a file's `engines` may name: those of archlab.engines."""


def more_bits(position: int, of: int) -> bool:
    """The layers to which llama.cpp's K_M mixes give more bits: use_more_bits in its src/llama-quant.cpp."""
    eighth = of // 8
    return position < eighth or position >= 7 * of // 8 or (position - eighth) % 3 == 2


PLACES: Mapping[str, Callable[[int, int], bool]] = {
    "more_bits": more_bits,
    "first_eighth": lambda position, of: position < of // 8,
    "first_sixteenth": lambda position, of: position < of // 16,
    "first_2": lambda position, of: position < 2,
    "first_4": lambda position, of: position < 4,
}
"""Word of a rule's `layers` -> whether it means the tensor at a position among the stack's tensors of its role."""


def tied(spec: ModelSpec) -> bool:
    """Whether the head has no table of its own."""
    weights = (weight for _, block, _ in spec.decoder.blocks() for weight in block.rows.weights.values())
    return all(weight.role != "head" or weight.tied is not None for weight in weights)


def gqa_4(spec: ModelSpec) -> Any:
    """Whether four query heads or more share a key/value head, in the first layer that attends (n_gqa of llama.cpp)."""
    groups = (block.sizes().get("G") for _, block, _ in spec.decoder.blocks())
    return next((g >= 4 for g in groups if g is not None), False)


MODELS: Mapping[str, Callable[[ModelSpec], Any]] = {"tied": tied, "gqa_4": gqa_4}
"""Word of a rule's `model` -> whether a model is that: a bool, or a column of them."""

_MATCHES = ("use", "role", "part", "stack", "path")
_KEYS = (*_MATCHES, "layers", "model", "format")
_USES = ("matmul", "lookup", "vector", "unread", "counted")
_TOWERS = ("vision", "audio")


@lru_cache(maxsize=1)
def precision_words() -> Mapping[str, tuple[str, ...]]:
    """The words that a rule may match by, roles and parts as the blocks declare them; a path is free."""
    kinds = [kind for kind in vars(blocks).values() if isinstance(kind, type) and issubclass(kind, Block)]
    return {
        "use": _USES,
        "stack": ("decoder", "encoder", *_TOWERS),
        "role": tuple(dict.fromkeys(role for kind in kinds for role in kind.roles)),
        "part": tuple(dict.fromkeys([*(kind.part for kind in kinds), *_TOWERS])),
    }


@dataclass(frozen=True)
class Rule:
    """Weights that it names get a format. `path` is a pattern such as `per_layer_embedding.*`; empty names all."""

    format: Format
    use: tuple[str, ...] = ()
    role: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    stack: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    layers: str | None = None
    model: str | None = None

    @property
    def for_all(self) -> bool:
        """Whether it is for every weight of every model."""
        return self.layers is None and self.model is None and not any(getattr(self, key) for key in _MATCHES)

    def names(self, entry: Entry, weight: Weight) -> bool:
        """Whether it is about this weight, in some layer."""
        return (
            (not self.use or weight.use in self.use)
            and (not self.role or weight.role in self.role)
            and (not self.part or entry.part_of(weight) in self.part)
            and (not self.stack or entry.stack in self.stack)
            and (not self.path or self._fits(f"{entry.path}.{weight.name}"))
        )

    def _fits(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.path)


def _is_weights(x: Any) -> bool:
    return isinstance(x, str | list | tuple | Mapping) and bool(x)


@dataclass(frozen=True)
class Precision:
    """What weights and cache are stored in, the format of matrix products, and which engines run it."""

    name: str = text("how the precision is called")
    title: str = text("what it is", "")
    weights: Any = field(
        kw_only=True,
        metadata={
            "type": FieldType("a format, or a list of rules that end in one for all the rest", _is_weights),
            "doc": "format of the weights, or rules: use, role, part, stack, path, layers, model -> format",
        },
    )
    kv: str = text("format of the keys and values of the cache", "bf16")
    compute: str = choice("number format of the matrix products", COMPUTE)
    engines: Sequence[str] = names("engines that run it", ("ideal", "hf", "vllm"))
    source: str = text("where the format is defined", "")

    def __post_init__(self) -> None:
        for engine in self.engines:
            if engine not in ENGINE_NAMES:
                known = f"{nearest(engine, ENGINE_NAMES)} (known: {', '.join(ENGINE_NAMES)})"
                raise SpecError(f"unknown engine {engine!r} in engines of precision {self.name}{known}")
        if not self.rules[-1].for_all:
            raise SpecError(f"the last rule of precision {self.name} must be for all the rest: format alone")
        if any(rule.for_all for rule in self.rules[:-1]):
            raise SpecError(
                f"a rule of precision {self.name} that is not the last is for all: none after it is reached"
            )
        self.kv_format  # noqa: B018  raises for a format that is not known

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, read."""
        given = [{"format": self.weights}] if isinstance(self.weights, str | Mapping) else self.weights
        return tuple(_rule(self.name, rule) for rule in given)

    @cached_property
    def kv_format(self) -> Format:
        """Format of the cache."""
        return format_named(self.kv)

    @property
    def by_position(self) -> bool:
        """Whether it depends on where a layer stands."""
        return any(rule.layers is not None for rule in self.rules)

    @property
    def activation_bytes(self) -> int:
        """Bytes of an element of the activations: products in a narrow format accumulate into two bytes."""
        return 4 if self.compute in ("fp32", "tf32") else 2

    def weight_bits(self, rows: Ledger, entry: Entry, weight: Weight) -> Number:
        """Bits of all copies of a weight: of `entry.count` layers."""
        if len(self.rules) == 1:
            return entry.count * _copy_bits(entry, weight, self.rules[0].format)
        return sum(count * _copy_bits(entry, weight, form) for form, count in self.formats(rows, entry, weight))

    def bits(self, rows: Ledger, entry: Entry, weight: Weight) -> Number:
        """Bits an element, scales included, on average over the layers."""
        if len(self.rules) == 1 and self.rules[0].format.group is None and not self.rules[0].format.row:
            return self.rules[0].format.bits  # a scale a tensor is nothing
        return self.weight_bits(rows, entry, weight) / (entry.numel(weight) * entry.count)

    def formats(self, rows: Ledger, entry: Entry, weight: Weight) -> Iterator[tuple[Format, Number]]:
        """(format, of how many of the entry's layers).

        Places are those in the whole model, on a rank that has some of its layers too. Raises SpecError where a rule
        asks for them and the layers are not known one by one.
        """
        left: Number = entry.count
        free: Any = True  # False where a column of models has met its last rule
        taken: set[int] = set()
        for rule in self.rules:
            if not rule.names(entry, weight):
                continue
            if rule.layers is not None:
                here = self._layers(rows.spec, entry, weight, rule.layers) - taken
                taken |= here
                left = left - len(here)
                yield rule.format, where(free, len(here), 0)
                continue
            holds = rule.model is None or MODELS[rule.model](rows.spec)
            if holds is not False:
                yield rule.format, where(holds, where(free, left, 0), 0)
                free = where(holds, False, free)
            if holds is True:
                return

    def _layers(self, spec: ModelSpec, entry: Entry, weight: Weight, place: str) -> set[int]:
        """Layers of the entry that stand in a place, counted among the stack's layers with such a weight."""
        if entry.indices is None:
            if not entry.kind:  # outside of the layers
                return set()
            raise SpecError(f"precision {self.name} depends on where a layer stands: n_layers must be one number")
        order = _order(spec, entry.stack, weight.role)
        return {i for i in entry.indices if PLACES[place](order[i], len(order))}

    def state_bits(self, entry: Entry, state: State) -> Number:
        """Bits of one slot of one sequence of a state, scales included."""
        numel = entry.numel(state)
        if state.bits is not None:
            return numel * state.bits
        length = entry.sizes[state.axes[-1]]
        form = self.kv_format
        return form.matrix_bits(floor_div(numel, length), length) - form.tensor


def _copy_bits(entry: Entry, weight: Weight, form: Format) -> Number:
    """Bits of one copy; each expert of a mixture is a matrix of its own."""
    if form.group is None and not form.row:
        return entry.numel(weight) * form.bits + form.tensor
    inner, matrices = entry.row_length(weight), 1 if weight.routed is None else entry.sizes[weight.routed[1]]
    return matrices * form.matrix_bits(floor_div(floor_div(entry.numel(weight), inner), matrices), inner)


def _order(spec: ModelSpec, name: str, role: str) -> dict[int, int]:
    """Layer -> how many layers of the stack before it have a matrix of that role, in use or not."""
    stack = next(stack for stack in spec.stacks if stack.name == name)
    having = {
        index
        for _, block, layer in stack.blocks()
        if layer is not None and any(w.role == role and w.use != "vector" for w in block.rows.weights.values())
        for index in layer.indices or ()
    }
    return {index: position for position, index in enumerate(sorted(having))}


def _rule(name: str, given: Any) -> Rule:
    if not isinstance(given, Mapping):
        raise SpecError(f"rule {given!r} of precision {name} must have keys: {', '.join(_KEYS)}")
    for key in given:
        if key not in _KEYS:
            raise SpecError(f"unknown key {key} in a rule of precision {name}{nearest(str(key), _KEYS)}")
    if "format" not in given:
        raise SpecError(f"rule {dict(given)} of precision {name} has no format")
    if "layers" in given and "model" in given:
        raise SpecError(f"a rule of precision {name} has layers and model; it can have one of them")
    words = {key: _words(name, key, given[key]) for key in _MATCHES if key in given}
    layers, model = _word(name, "layers", given, PLACES), _word(name, "model", given, MODELS)
    return Rule(format_named(given["format"]), layers=layers, model=model, **words)


def _word(name: str, key: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    if key not in given:
        return None
    word = given[key]
    if not isinstance(word, str) or word not in known:
        meant = nearest(word, known) if isinstance(word, str) else ""
        raise SpecError(f"{key}={word!r} in a rule of precision {name} must be one of {', '.join(known)}{meant}")
    return word


def _words(name: str, key: str, given: Any) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    if not found or not all(isinstance(word, str) for word in found):
        raise SpecError(f"{key}={given!r} in a rule of precision {name} must be a word or a list of words")
    known = precision_words().get(key, found)
    for word in found:
        if word not in known:
            raise SpecError(
                f"{key}={word!r} in a rule of precision {name} must be one of {', '.join(known)}{nearest(word, known)}"
            )
    return found


def precision_names() -> list[str]:
    """Names of the precisions, shipped and the user's own."""
    return sorted(group_files("precision"))


def load_precision(name: str | Path | Precision, kv: str | None = None) -> Precision:
    """A precision by name (bf16, q4_k_m ...), from a file, or as it is; `kv` gives it another cache format.

    Raises ArchlabError.
    """
    found = name if isinstance(name, Precision) else _load(name)
    return found if kv is None else with_kv(found, kv)


def _load(name: str | Path) -> Precision:
    shipped = data_dir("conf") / "precision" / f"{name}.yaml"
    return _shipped(shipped) if shipped.is_file() else precision_from(group_file("precision", "precision", name))


@lru_cache(maxsize=64)
def _shipped(path: Path) -> Precision:
    return precision_from(yamlfile.read(path))


def precision_from(data: Mapping[str, Any]) -> Precision:
    """A precision from its keys. Raises ArchlabError."""
    check_fields(Precision, "precision", data)
    return Precision(**data)


def with_kv(precision: Precision, kv: str) -> Precision:
    """The precision with another format of the cache. Raises ArchlabError."""
    from dataclasses import replace

    return precision if kv == precision.kv else replace(precision, kv=kv)


def cache_precision(name: str | Precision) -> Precision:
    """What a cache is kept in, by the name of a format (fp8, q8_0 ...) or of a precision. Raises ArchlabError."""
    if isinstance(name, str) and name in FORMATS:
        return Precision(name=name, weights="bf16", kv=name, compute="bf16")
    return load_precision(name)
