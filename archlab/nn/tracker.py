"""Peak memory of the built module, from torch's memory tracker, without a GPU and without the memory.

The module and all that it computes are fake tensors: they have shapes and formats, and no values. torch's MemTracker
sees every storage made and freed. What it says is the bytes of the tensors; an allocator rounds, and a device has a
context and workspaces besides.

A model of many layers repeats its pattern, so a few layers tell of all. Each run of layers that a pattern fills is
traced with one period of it (the first run with two: its first period makes the masks and angles that all share) and,
run after run, with one more; a moment of the step (the embedding, a layer of the first or of the last period, forward
or backward, the logits, the loss) then holds bytes that are affine in the number of periods. The peak is the largest of
those moments at full depth: not the extrapolated peak, as it may lie elsewhere there. Layers that read another's keys
and values are a run of their own, after the run that keeps them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from archlab import layers as spec_layers
from archlab.errors import SpecError, nearest
from archlab.layers import Stack
from archlab.nn.build import build, refuse_many
from archlab.nn.cache import Cache
from archlab.nn.declare import Declared
from archlab.nn.decoder import Decoder
from archlab.nn.inputs import inputs_of
from archlab.nn.stack import Layer
from archlab.spec import ModelSpec
from archlab.workload import Workload

CATEGORIES = ("parameters", "cache", "activations", "gradients", "optimizer")
"""What bytes belong to. Activations are all that is neither of the others: temporaries and inputs among them."""

OPTIMIZERS = {"none": 0, "adam": 2}
"""Optimizer -> tensors of a parameter's size and format that it keeps for each."""

_KINDS = {"PARAM": "parameters", "BUFFER": "parameters", "GRAD": "gradients", "OPT": "optimizer"}
"""The tracker's kinds of tensors, by the names of its enum; all others are activations (a cache's are told apart)."""

Bytes = dict[str, int]
"""Category -> bytes."""

Place = tuple[Any, ...]
"""A part of the model that stands for the same in models of fewer layers."""


@dataclass(frozen=True)
class Moment:
    """The fullest moment of one place: what stood then, and which block ran."""

    held: Bytes
    at: str

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.held.values())


@dataclass(frozen=True)
class Peak:
    """The most bytes that one step holds at once.

    by_category  parameters, cache, activations, gradients, optimizer -> bytes at that moment
    at           the moment: 'forward layers.25.attention', 'backward head'
    traced       layers that were run, of `layers` that the model has; equal where nothing was extrapolated
    """

    step: str
    total: int
    by_category: Bytes
    at: str
    traced: int
    layers: int

    def as_dict(self) -> dict[str, Any]:
        """What a JSON document says of it."""
        return dataclasses.asdict(self)


def peak(
    spec: ModelSpec,
    work: Workload,
    dtype: torch.dtype = torch.bfloat16,
    optimizer: str = "none",
    whole: bool | None = None,
) -> Peak:
    """The peak of one step: a prefill or a decode step with its cache, or with work.train forward, loss and backward.

    The loss is the cross-entropy in fp32 of all the logits; hidden states of a model without a head are summed.
    `optimizer`: "adam" keeps its two states of every parameter beside (the step that updates them is not run).
    `whole` traces every layer; by default where that takes no longer than to extrapolate. A mixture's tokens are spread
    evenly over its experts. Raises ArchlabError.
    """
    spec.admit(work)
    if optimizer not in OPTIMIZERS:
        raise SpecError(
            f"optimizer={optimizer!r} must be one of {', '.join(OPTIMIZERS)}{nearest(optimizer, OPTIMIZERS)}"
        )
    refuse_many(spec)
    runs = [run for stack in built(spec) for run in runs_of(stack)]
    full = {run: run.periods for run in runs}
    least = {run: min(1 if run.start else 2, run.periods) for run in runs}
    steps = [run for run in runs if full[run] > least[run]]
    layers = _layers(full)
    if whole is None:
        whole = (1 + len(steps)) * _layers(least) + sum(run.period for run in steps) >= layers
    if whole:
        least, steps = full, []
    base = traced(spec, work, least, dtype, optimizer)
    others = [
        (traced(spec, work, least | {run: least[run] + 1}, dtype, optimizer), full[run] - least[run]) for run in steps
    ]
    top = max((_extrapolated(key, base, others) for key in base), key=lambda moment: moment.total)
    name = "training" if work.train else "prefill" if work.new == work.context else "decode"
    ran = _layers(least) + max((run.period for run in steps), default=0)
    return Peak(name, top.total, top.held, top.at, ran, layers)


def _layers(periods: Mapping[Run, int]) -> int:
    return sum(run.length(n) for run, n in periods.items())


def _extrapolated(
    key: Place, base: Mapping[Place, Moment], others: Sequence[tuple[Mapping[Place, Moment], int]]
) -> Moment:
    """The moment at full depth: what one more period of each run adds, as often as it has more of them."""
    held = dict(base[key].held)
    for found, more in others:
        for category, n in found[key].held.items():
            held[category] += more * (n - base[key].held[category])
    return Moment(held, _at_depth(base[key].at, key))


def _at_depth(at: str, key: Place) -> str:
    """The moment's words with the layer's index in the whole model."""
    if len(key) != 4:  # not in a layer
        return at
    _, run, side, position = key
    index = run.start + position if side == "first" else run.end - position
    return re.sub(r"layers\.\d+", f"layers.{index}", at, count=1)


# ---------------------------------------------------------------- fewer layers


@dataclass(frozen=True)
class Run:
    """Layers one after another that are alike but for their kinds, which repeat: `stack` has them from `start` on."""

    stack: str
    start: int
    end: int
    period: int

    @property
    def periods(self) -> int:
        """Whole periods; the last layers may be a part of one."""
        return (self.end - self.start) // self.period

    def length(self, periods: int) -> int:
        """Layers left with so many periods."""
        return periods * self.period + (self.end - self.start) % self.period

    def places(self, index: int, length: int) -> Iterator[Place]:
        """Where a layer stands, whatever the number of periods: in the first of them, in the last or what follows."""
        if index < self.period and length >= self.period:
            yield self, "first", index
        if length - index <= self.length(1):
            yield self, "last", length - index


def built(spec: ModelSpec) -> Iterator[Stack]:
    """The stacks that have a module."""
    yield from (stack for stack in spec.stacks if not stack.counted)


def runs_of(stack: Stack) -> Iterator[Run]:
    """Stretches of layers that the same spans change, each with the shortest period of its layers."""
    layers = stack.in_order()
    start = 0
    for end in range(1, len(layers) + 1):
        if end == len(layers) or layers[end].spans != layers[start].spans:
            yield Run(stack.name, start, end, _period(layers[start:end]))
            start = end


def _period(layers: Sequence[spec_layers.Layer]) -> int:
    return next(p for p in range(1, len(layers) + 1) if all(a is b for a, b in zip(layers, layers[p:], strict=False)))


def shortened(spec: ModelSpec, periods: Mapping[Run, int]) -> ModelSpec:
    """The spec with so many periods of each run."""
    stacks: dict[str, Stack] = {}
    for stack in built(spec):
        layers = stack.in_order()
        kept = [layers[run.start + i] for run, n in periods.items() if run.stack == stack.name
                for i in range(run.length(n))]  # fmt: skip
        stacks[stack.name] = _with_layers(stack, kept)
    return dataclasses.replace(spec, n_layers=len(stacks["decoder"].in_order()), **stacks)  # type: ignore[arg-type]


def _with_layers(stack: Stack, kept: Sequence[spec_layers.Layer]) -> Stack:
    """The stack with these layers; what has a slice for each layer (per-layer embeddings) has as many."""
    layers = []
    for layer in dict.fromkeys(stack.layers):
        indices = tuple(i for i, other in enumerate(kept) if other is layer)
        if indices:
            layers.append(dataclasses.replace(layer, count=len(indices), indices=indices))
    sliced: dict[str, Any] = {"n_layers": len(kept)}
    before = tuple(
        (path, dataclasses.replace(block, **sliced) if hasattr(block, "n_layers") else block)
        for path, block in stack.before
    )
    return dataclasses.replace(stack, before=before, layers=tuple(layers))


# ---------------------------------------------------------------- one trace


def traced(spec: ModelSpec, work: Workload, periods: Mapping[Run, int], dtype: torch.dtype,
           optimizer: str) -> dict[Place, Moment]:  # fmt: skip
    """Place -> its fullest moment, of the model with so many periods."""
    small = shortened(spec, periods)
    with FakeTensorMode():
        model = build(small, dtype=dtype, init=False)
        run = Training(model, work) if work.train else Inference(model, work)
        states = [torch.empty_like(p) for p in model.parameters() for _ in range(OPTIMIZERS[optimizer])]
        record = Record(run.cache_bytes, sum(state.nbytes for state in states), model, places_of(periods))
        record.track_external(model, *run.tensors, *states)
        with record:
            run(record)
        record.forget()
    return record.moments


def places_of(periods: Mapping[Run, int]) -> dict[str, tuple[Place, ...]]:
    """Path of a layer -> where it stands."""
    found: dict[str, tuple[Place, ...]] = {}
    at: dict[str, int] = {}
    for run, n in periods.items():
        prefix = "" if run.stack == "decoder" else f"{run.stack}."
        length, first = run.length(n), at.get(run.stack, 0)
        for i in range(length):
            found[f"{prefix}layers.{first + i}"] = tuple(run.places(i, length))
        at[run.stack] = first + length
    return found


class Record(MemTracker):
    """Keeps the fullest moment of every place. Forward hooks say which block runs, hooks of gradients which layer's
    backward pass does.
    """

    def __init__(self, cache_bytes: int, state_bytes: int, model: Decoder, places: Mapping[str, Any]) -> None:
        super().__init__()
        self.cache_bytes, self.state_bytes, self.places = cache_bytes, state_bytes, places
        self.moments: dict[Place, Moment] = {}
        self.trail = ["model"]
        self.phase = "forward"
        self.hooks = [hook for path, module in model.named_modules() for hook in self._hooks(path, module)]

    def _hooks(self, path: str, module: nn.Module) -> Iterator[Any]:
        if not isinstance(module, Declared | Layer):
            return
        yield module.register_forward_pre_hook(partial(self._enter, path))
        if path in self.places or _layer(path) not in self.places:
            yield module.register_forward_hook(partial(self._leave_and_watch, path))
        else:
            yield module.register_forward_hook(self._leave)

    def _enter(self, path: str, *_: Any) -> None:
        self.trail.append(path)

    def _leave(self, *_: Any) -> None:
        self.trail.pop()

    def _leave_and_watch(self, path: str, module: nn.Module, given: Any, made: Any) -> None:
        self.trail.pop()
        if isinstance(made, Tensor) and made.requires_grad and made is not given[0]:
            made.register_hook(partial(self._backward_of, path))

    def _backward_of(self, path: str, _: Tensor) -> None:
        self.trail[-1] = path

    def at(self, phase: str, path: str) -> None:
        """Says what runs from here on."""
        self.phase, self.trail = phase, [path]

    def forget(self) -> None:
        """Takes the hooks off."""
        for hook in self.hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_dispatch__(func, types, args, kwargs)
        self.note()
        return made

    def _update_peak_stats(self, peak_state: Any) -> None:
        """Left out: the tracker's own peaks, module by module, take most of its time."""

    def note(self) -> None:
        """Keeps what stands now, if it is the most of its place."""
        held = dict.fromkeys(CATEGORIES, 0)
        for device in self.get_tracker_snapshot("current").values():
            for kind, n in device.items():
                if kind != "Total":
                    held[_KINDS.get(getattr(kind, "name", ""), "activations")] += n
        held["cache"], held["optimizer"] = self.cache_bytes, held["optimizer"] + self.state_bytes
        held["activations"] -= self.cache_bytes + self.state_bytes
        path, now = self.trail[-1], Moment(held, f"{self.phase} {self.trail[-1]}")
        for place in self.places.get(_layer(path), ((path,),)):
            key = (self.phase, *place)
            if key not in self.moments or self.moments[key].total < now.total:
                self.moments[key] = now


def _layer(path: str) -> str:
    """The layer that a path is in: 'layers.3.attention' -> 'layers.3'; other paths as they are."""
    before, inside, after = path.rpartition("layers.")
    return before + inside + after.partition(".")[0] if inside else path


class Watch(Protocol):
    """Who wants to know what runs."""

    def at(self, phase: str, path: str) -> None:
        """Says what runs from here on."""


class Inference:
    """A prefill or a decode step, with its cache where the model has one."""

    def __init__(self, model: Decoder, work: Workload) -> None:
        self.model, self.logits, self.inputs = model, work.logits, inputs_of(model, work)
        self.cache: Cache | None = None
        if model.spec.decodes:
            self.cache = model.init_cache(work.batch, work.context, source=work.source)
            self.cache.position = work.context - work.new  # as if these had gone by
        self.cache_bytes = 0 if self.cache is None else self.cache.nbytes

    @property
    def tensors(self) -> list[Tensor]:
        """What is there before the step, beside the model."""
        buffers = [] if self.cache is None else [state.buffer for state in self.cache.states.values()]
        return [*self.inputs.values(), *buffers]

    def __call__(self, record: Watch) -> None:
        with torch.no_grad():
            self.model(cache=self.cache, logits=self.logits, **{"ids": None} | self.inputs)


class Training:
    """Forward, loss and backward of whole sequences."""

    cache_bytes = 0

    def __init__(self, model: Decoder, work: Workload) -> None:
        self.model, self.inputs = model, inputs_of(model, work)
        first = next(model.parameters())
        self.targets = torch.zeros(work.batch * work.new, dtype=torch.long, device=first.device)

    @property
    def tensors(self) -> list[Tensor]:
        """What is there before the step, beside the model."""
        return [*self.inputs.values(), self.targets]

    def __call__(self, record: Watch) -> None:
        loss = self.loss(self.model(**self.inputs), record)
        record.at("backward", "loss")
        loss.backward()

    def loss(self, made: Tensor, record: Watch) -> Tensor:
        """Cross-entropy of the logits, in fp32; the sum of hidden states. Keeps no logits of its own."""
        record.at("forward", "loss")
        if "head" not in dict(self.model.spec.decoder.after):
            return made.sum()
        return F.cross_entropy(made.flatten(0, 1).float(), self.targets)
