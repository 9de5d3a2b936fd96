"""What the text parts of all config.json files share: kinds of layer, RoPE, activations, and how they are said here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archlab.algebra import Number
from archlab.blocks import Attention
from archlab.errors import SpecError
from archlab.hf.reader import MAPPING, NUMBER, WHOLE, WORD, WORDS, Reader, short, shown
from archlab.layers import Block, Layer, Stack
from archlab.spec import ModelSpec

Tree = dict[str, Any]

SLIDING, FULL = "sliding_attention", "full_attention"
KINDS = {SLIDING: "local", FULL: "global"}
ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "silu": "silu", "swish": "silu", "relu": "relu"}
ACTIVATION_WORDS = {"gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu", "silu": "silu", "relu": "relu"}


def said(**keys: Any) -> Tree:
    """The keys that have a value: what a model file would say, and no more."""
    return {key: value for key, value in keys.items() if value is not None}


def unless(value: Any, default: Any) -> Any:
    """The value, or None where it is what a model file means without saying so."""
    return None if value == default else value


# ---------------------------------------------------------------- kinds of layer


def layer_types(r: Reader, every: int, n_layers: int, heeds: bool = False) -> list[str]:
    """The type of each layer: the file's own, or full at every `every`-th layer.

    `heeds`: the class takes another number from sliding_window_pattern. Raises SpecError where one would go unheeded.
    """
    types = r.take("layer_types", WORDS, none=True)
    patterns = {key: r.take(key, WHOLE, none=True) for key in ("sliding_window_pattern", "_sliding_window_pattern")}
    if types is None:
        every = patterns["sliding_window_pattern"] or every if heeds else every
        for key, said_every in patterns.items():
            if said_every not in (None, every):
                raise SpecError(f"{r.where}{key}={said_every} is not heeded by transformers; say layer_types instead")
        types = [SLIDING if (i + 1) % every else FULL for i in range(n_layers)]
    for kind in types:
        if kind not in KINDS:
            raise SpecError(f"{r.where}layer_types has {short(kind)}; it must be of {SLIDING} and {FULL}")
    if len(types) != n_layers:
        raise SpecError(f"{r.where}layer_types has {len(types)} entries for num_hidden_layers={n_layers}")
    return types


def pattern(kinds: Sequence[str]) -> list[str]:
    """The shortest period that, repeated and cut, gives the kinds: ['local*5', 'global']."""
    entries: list[list[Any]] = []
    for kind in kinds[: period(kinds)]:
        if entries and entries[-1][0] == kind:
            entries[-1][1] += 1
        else:
            entries.append([kind, 1])
    return [kind if times == 1 else f"{kind}*{times}" for kind, times in entries]


def period(kinds: Sequence[str]) -> int:
    """Length of the shortest start that, repeated and cut, gives all of them, in one pass (Knuth, Morris, Pratt)."""
    borders, border = [0], 0  # of each start: the longest proper start of it that also ends it
    for kind in kinds[1:]:
        while border and kind != kinds[border]:
            border = borders[border - 1]
        border += kind == kinds[border]
        borders.append(border)
    return len(kinds) - borders[-1]


def slices(indices: Sequence[int], n_layers: int) -> str:
    """Layers as a span says them: ':10', '-10:', '3' or '2:5', several with commas."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] += 1
        else:
            runs.append([index, index + 1])
    return ", ".join(_slice(first, end, n_layers) for first, end in runs)


def _slice(first: int, end: int, n_layers: int) -> str:
    if end == n_layers:
        return f"{first - n_layers}:"
    if first == 0:
        return f":{end}"
    return str(first) if end == first + 1 else f"{first}:{end}"


# ---------------------------------------------------------------- RoPE


def flat_rope(r: Reader, theta: float = 10000.0) -> Tree:
    """RoPE of a file whose layers all have the same: rope_theta and rope_scaling, or rope_parameters."""
    scaling, parameters = r.take("rope_scaling", MAPPING, none=True), r.take("rope_parameters", MAPPING, none=True)
    if scaling and parameters and scaling != parameters:
        raise SpecError(f"{r.where}rope_scaling and {r.where}rope_parameters say different things; drop one")
    top = r.take("rope_theta", NUMBER, none=True)
    given = dict(scaling or parameters or {})
    given.setdefault("rope_theta", theta if top is None else top)
    return rope_of(Reader(given, {}, f"{r.where}rope_parameters."))


def rope_by_type(r: Reader, thetas: Mapping[str, float]) -> dict[str, Tree]:
    """RoPE of each type of layer: rope_parameters by type, or rope_theta, rope_local_base_freq and rope_scaling."""
    sections = r.take("rope_parameters", MAPPING, none=True) or {}
    scaling = r.take("rope_scaling", MAPPING, none=True) or {}
    tops = {FULL: r.take("rope_theta", NUMBER, none=True), SLIDING: r.take("rope_local_base_freq", NUMBER, none=True)}
    inner = Reader(sections, {}, f"{r.where}rope_parameters.")
    found = {}
    for kind in (SLIDING, FULL):
        given = dict(inner.take(kind, MAPPING, none=True) or {}) if kind in sections else {}
        if kind == FULL:
            given |= scaling
        given.setdefault("rope_theta", thetas[kind] if tops[kind] is None else tops[kind])
        found[kind] = rope_of(Reader(given, {}, f"{inner.where}{kind}."))
    inner.done()
    return found


ROPE_DEFAULTS = {"rope_type": None, "type": None, "factor": 1.0, "partial_rotary_factor": 1.0}


def rope_of(r: Reader) -> Tree:
    """rope_theta, rope_factor and rope_fraction of one mapping of RoPE parameters."""
    r.defaults = ROPE_DEFAULTS
    name = r.take("rope_type", WORD, none=True) or r.take("type", WORD, none=True) or "default"
    if name not in ("default", "linear", "proportional"):
        raise SpecError(
            f"{r.where}rope_type={shown(name)} cannot be described: RoPE is default, linear or proportional here"
        )
    r.ignore("type")
    factor, share = r.take("factor", NUMBER, none=True), r.take("partial_rotary_factor", NUMBER, none=True)
    factor = 1.0 if name == "default" or factor is None else factor
    tree = said(
        rope_theta=r.take("rope_theta", NUMBER), rope_factor=unless(factor, 1.0), rope_fraction=unless(share, 1.0)
    )
    r.done()
    return tree | ({"rope_spread": "head"} if name == "proportional" else {})


def rope_words(block: Any) -> Tree:
    """The mapping of RoPE parameters of an attention block."""
    if block.rope_theta is None:
        raise SpecError("rope_theta=null cannot be written: every layer has RoPE in a config.json")
    theta = {"rope_theta": float(block.rope_theta)}
    if block.rope_spread == "head":
        words = {"rope_type": "proportional", "partial_rotary_factor": block.rope_fraction, **theta}
        return words | ({} if block.rope_factor == 1 else {"factor": float(block.rope_factor)})
    share = {} if block.rope_fraction == 1 else {"partial_rotary_factor": block.rope_fraction}
    if block.rope_factor == 1:
        return {"rope_type": "default", **theta, **share}
    return {"rope_type": "linear", "factor": float(block.rope_factor), **theta, **share}


# ---------------------------------------------------------------- blocks of a spec, for writing


def block(layer: Layer, path: str) -> Any:
    """The block at a path of a layer. Raises SpecError where there is none."""
    for name, found in layer.blocks():
        if name == path:
            return found
    raise SpecError(f"the {layer.kind} layers have no {path}, which the family needs")


def attentions_of(layers: Sequence[Layer]) -> list[Attention]:
    """The self-attention of each layer. Raises SpecError where one has another mixer."""
    found = [block(layer, "attention") for layer in layers]
    for layer, mixer in zip(layers, found, strict=True):
        if not isinstance(mixer, Attention):
            raise SpecError(f"the {layer.kind} layers have no attention, and the family has it in all")
    return found


def top_block(stack: Stack, path: str) -> Any:
    """The block before or after the layers of a stack; None where there is none."""
    return next((found for name, found in (*stack.before, *stack.after) if name == path), None)


def layer_type_of(attention: Block) -> str:
    """sliding_attention where the attention has a window."""
    return FULL if attention.facts().get("window") is None else SLIDING


def one(values: Sequence[Any], what: str) -> Any:
    """The value that all layers have. Raises SpecError where they differ."""
    if any(value != values[0] for value in values):
        several = " and ".join(dict.fromkeys(map(str, values)))
        raise SpecError(f"{what} is {several} in different layers, and the family has one for all")
    return values[0]


def whole(value: Number, what: str) -> int:
    """A number that transformers wants as an int. Raises SpecError for another one."""
    if value != int(value):
        raise SpecError(f"{what}={value} cannot be written: transformers takes a whole number")
    return int(value)


def real(value: Number | None) -> float | None:
    """A number that transformers wants as a float, or null."""
    return None if value is None else float(value)


def widths_fit(spec: ModelSpec, d_model: int, n_heads: int) -> None:
    """Raises SpecError for a width that transformers' class refuses."""
    if d_model % n_heads:
        raise SpecError(
            f"d_model ({d_model}) must be a multiple of n_heads ({n_heads}) in transformers' classes of {spec.family}"
        )
