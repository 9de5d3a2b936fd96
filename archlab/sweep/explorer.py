"""What the explorer page needs of a model: its sizes, its patterns, and its formulas as JavaScript.

The formulas run once on placeholders, as `evaluate` runs them, and what was written down is printed
(columns/javascript). The layers of each kind are letters of their own, so that one set of formulas serves every pattern
and depth; how many of a kind a pattern has is printed from `repeat_pattern`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from archlab import __version__
from archlab.algebra import Number
from archlab.analyzers.formula import METRICS, formula
from archlab.analyzers.memory import TIGHT, setting
from archlab.assemble import resolve, rules
from archlab.columns.graph import Graph
from archlab.columns.javascript import HELPERS, function
from archlab.columns.program import Program
from archlab.columns.traced import Traced, column
from archlab.errors import ArchlabError, SpecError
from archlab.fields import MOST_LAYERS
from archlab.hardware import KINDS, Hardware, hardware_names, load_hardware
from archlab.layers import repeat_pattern
from archlab.precision import load_precision
from archlab.presets import models
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.sweep.explorer_fields import both_kinds, patterns, sizes, slider
from archlab.sweep.measures import Asked, measures
from archlab.sweep.slots import said
from archlab.workload import Workload

PRECISIONS = ("bf16", "fp8", "int8", "int4", "mxfp4", "fp32")
"""What the page offers: rules that ask where a layer stands cannot be written down for every depth."""

DEVICE = ("hardware.memory_bytes", "hardware.bandwidth_bytes_per_s")
WORK = {"workload.context": 2**21, "workload.batch": 2**14}
"""Key -> the largest that the page takes."""

DEFAULT_DEVICE = "h100-sxm"

Letters = Mapping[str, Any]
"""Input -> its placeholder."""


@dataclass(frozen=True)
class Explored:
    """A model as the page takes it: plain data, and the source of two JavaScript functions.

    order     the kind of each layer, in order
    fields    what can be moved: {key, base, doc, added, least, most, stops}, or else {..., fixed: why not};
              `added` is what the file does not say, since no layer of its pattern reads it
    patterns  {label, pattern as YAML writes it}, the first the model's own; empty where it cannot be changed
    layers    function of [depth] -> 'pattern:kind' -> layers
    inputs    what `numbers` take, in order: fields, context, batch, the device's numbers, layers of each kind
    numbers   the kinds that there are layers of, joined by + -> {source: function of inputs -> results by precision,
              rules: result -> the sentence, in which {0} is the result said:0, refused: why a pattern of these kinds
              alone cannot be, if it cannot; a longer one, cut by the depth, can}
    """

    name: str
    family: str
    context: int
    order: tuple[str, ...]
    fields: tuple[dict[str, Any], ...]
    kinds: tuple[str, ...]
    patterns: tuple[dict[str, Any], ...]
    layers: str
    inputs: tuple[str, ...]
    numbers: Mapping[str, Mapping[str, Any]]
    formulas: Mapping[str, str]


def explored(spec: ModelSpec, precisions: Sequence[str] = PRECISIONS) -> Explored:
    """The model written down. Raises SpecError for an encoder alone, which has no cache and decodes nothing."""
    if not spec.decodes:
        raise SpecError(f"{spec.name} reads whole sequences and decodes nothing; the explorer takes decoders")
    choices = [*patterns(spec)]
    movable = replace(spec, data=both_kinds(spec, choices)) if choices else spec
    fields = [slider(movable, key, base) for key, base in sizes(movable)]
    free = [f["key"] for f in fields if "fixed" not in f and f["key"] != "n_layers"]
    kinds = tuple(dict.fromkeys(kind for p in choices for kind in p["pattern"]))
    formats = tuple(dict.fromkeys(load_precision(name).compute for name in precisions))
    inputs = (*free, *WORK, *DEVICE, *(f"hardware.peak_flops.{f}" for f in formats), *(f"layers.{k}" for k in kinds))
    ends = {f["key"]: (f["least"], f["most"]) for f in fields if "fixed" not in f}
    mixes = [mix for n in range(1, len(kinds) + 1) for mix in itertools.combinations(kinds, n)] or [()]
    numbers = {"+".join(mix): _numbers(movable, mix, free, inputs, ends, precisions) for mix in mixes}
    return Explored(
        spec.name, spec.family, spec.context, tuple(spec.kinds()), tuple(fields), kinds, tuple(choices),
        _layers(choices, kinds), inputs, numbers, {name: str(formula(name, spec)) for name in METRICS},
    )  # fmt: skip


def explorer_data(
    specs: Mapping[str, ModelSpec], first: str, say: Callable[[str], object] = lambda _: None
) -> dict[str, Any]:
    """What the page is made of (archlab.report.explorer): models by the word that names each on the command line.

    first  the model that the page opens with. Raises SpecError.
    """
    sources: dict[str, int] = {}
    written = []
    for n, (word, spec) in enumerate(specs.items(), 1):
        say(f"{n} of {len(specs)}: {spec.name}")
        found = explored(spec)
        model = {**asdict(found), **_start(word, spec), "layers": sources.setdefault(found.layers, len(sources))}
        model["numbers"] = {
            mix: {**of, "source": sources.setdefault(of["source"], len(sources))} for mix, of in found.numbers.items()
        }
        written.append(model)
    return {
        "version": __version__, "first": first, "device": DEFAULT_DEVICE, "tight": TIGHT, "models": written,
        "sources": [*sources],
        "most": {key.removeprefix("workload."): n for key, n in WORK.items()},
        "helpers": HELPERS, "devices": [*_devices()], "precisions": [*_precisions()],
    }  # fmt: skip


def _start(word: str, spec: ModelSpec) -> dict[str, Any]:
    """How the model is named in a command, and in a file that starts from it: `stem`, or `whole` where none can."""
    if word in models() or Path(word).suffix in (".yaml", ".yml"):
        return {"word": word, "stem": Path(word).stem if Path(word).suffix in (".yaml", ".yml") else word}
    return {"word": word, "whole": dict(spec.data)}


def _devices() -> Iterator[dict[str, Any]]:
    """Every known device, by kind, those of the most memory first."""
    known = [load_hardware(name) for name in hardware_names()]
    for device in sorted(known, key=lambda d: (KINDS.index(d.kind), -d.available_bytes, d.name)):
        names = ("name", "title", "kind", "available_bytes", "bandwidth_bytes_per_s")
        yield {name: getattr(device, name) for name in names} | {"peak_flops": dict(device.peak_flops)}


def _precisions() -> Iterator[dict[str, str]]:
    for name in PRECISIONS:
        found = load_precision(name)
        yield {"name": name, "title": found.title, "compute": found.compute}


# ---------------------------------------------------------------- the formulas


def _letter(graph: Graph, axis: int, least: float, most: float) -> Traced:
    return column(graph, np.array([least, most], dtype=np.float64), axis)


def _ends(key: str, ends: Mapping[str, tuple[int, int]]) -> tuple[float, float]:
    """Between which numbers an input is: what is known of it decides what needs no computing."""
    if key in ends:
        return ends[key]
    if key in WORK:
        return 1, WORK[key]
    if key.startswith("layers."):
        return 1, MOST_LAYERS
    return (2**20, 2**50) if key == "hardware.memory_bytes" else (0.5, 1e18)


def _numbers(
    spec: ModelSpec,
    mix: Sequence[str],
    free: Sequence[str],
    inputs: Sequence[str],
    ends: Mapping[str, tuple[int, int]],
    precisions: Sequence[str],
) -> dict[str, Any]:
    """The formulas of a model with layers of these kinds: `source`, `rules` and `refused`."""
    graph = Graph(len(inputs))
    letters = {key: _letter(graph, i, *_ends(key, ends)) for i, key in enumerate(inputs)}
    try:
        own, refused = resolve(override(dict(spec.data), _changes(spec, mix, letters, free))), {}
    except ArchlabError as problem:  # keys that have no effect without the other kind
        whole = resolve(override(dict(spec.data), {key: letters[key] for key in free}))
        own, refused = _only(whole, mix), {"refused": str(problem)}
    own = _counted(own, {kind: letters[f"layers.{kind}"] for kind in mix})
    work = _work(own, letters)
    told = said((*((condition, sentence) for _, condition, sentence in rules(own)), *own.work_rules(work)))
    results = _results(own, work, letters, precisions) | told.results
    return {"source": function(Program(graph, results), range(len(inputs))), "rules": told.sentences, **refused}


def _changes(spec: ModelSpec, mix: Sequence[str], letters: Letters, free: Sequence[str]) -> dict[str, Any]:
    """A pattern of these kinds alone, and the letters of what they read."""
    absent = {*spec.data["pattern"]} - {*mix} if mix else set()
    changes = {key: letters[key] for key in free if key.partition(".")[0] not in absent}
    return changes | ({"pattern": [*mix]} if mix else {})


def _only(spec: ModelSpec, mix: Sequence[str]) -> ModelSpec:
    """The model without its layers of other kinds."""
    layers = tuple(layer for layer in spec.decoder.layers if layer.kind in mix)
    return replace(spec, decoder=replace(spec.decoder, layers=layers))


def _results(own: ModelSpec, work: Workload, letters: Letters, precisions: Sequence[str]) -> dict[str, Any]:
    """'precision:column' -> what it is."""
    return {
        f"{name}:{key}": value
        for name in precisions
        for key, value in measures(own, work, _asked(name, letters)).items()
    }


def _work(spec: ModelSpec, letters: Letters) -> Workload:
    """A prefill; an encoder reads a source as long as the context."""
    context = letters["workload.context"]
    source = {} if spec.encoder is None else {"source": context, "new_source": context}
    return Workload(letters["workload.batch"], new=context, context=context, logits="last", **source)


def _counted(spec: ModelSpec, counts: Mapping[str, Number]) -> ModelSpec:
    """The model with so many layers of each kind."""
    if not counts:
        return spec
    layers = tuple(replace(layer, count=counts[layer.kind], indices=None) for layer in spec.decoder.layers)
    return replace(spec, decoder=replace(spec.decoder, layers=layers))


def _asked(precision: str, letters: Letters) -> Asked:
    """On a device of which every number is a letter."""
    at = setting(None, precision, "ideal")
    room = letters["hardware.memory_bytes"]
    device = Hardware(
        name="device", title="any", kind="gpu", memory_bytes=room, status="verified", source="the page",
        bandwidth_bytes_per_s=letters["hardware.bandwidth_bytes_per_s"],
        peak_flops={at.precision.compute: letters[f"hardware.peak_flops.{at.precision.compute}"]},
    )  # fmt: skip
    return Asked(replace(at, device=device, capacity=room), memory=True, limits=True)


def _layers(patterns: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> str:
    """The source of a function: depth -> {'pattern:kind': layers}."""
    graph = Graph(1)
    depth = _letter(graph, 0, 1, MOST_LAYERS)
    counts = [repeat_pattern(tuple(p["pattern"]), depth) for p in patterns]
    found = {f"{i}:{kind}": of.get(kind, 0) for i, of in enumerate(counts) for kind in kinds}
    return function(Program(graph, found), (0,))
