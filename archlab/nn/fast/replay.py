"""A pass recorded once and run again without Python: what a step costs on the device, not what it costs to describe it.

A GPU replays a CUDA graph, a CPU a TorchScript trace. Both repeat the same operations on the same memory at the same
place: inputs and cache may be written to between runs; shapes, positions and weights are as they were.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from archlab.errors import ArchlabError
from archlab.nn.cache import Cache, Ring, Slots, Whole
from archlab.nn.decoder import Decoder

WARM_UPS = 3
"""Runs before a capture: kernels are compiled, tuned and loaded in them."""


class Replay:
    """Calling it runs the pass again and returns its logits, on a GPU always in the same memory.

    how    CUDA graph | TorchScript trace | Python, where what runs depends on values (a router's choices on a CPU)
    """

    def __init__(self, model: Decoder, inputs: Mapping[str, Tensor], cache: Cache | None, logits: str = "all") -> None:
        self._start = 0 if cache is None else cache.position
        self._names, self._tensors = [*inputs], [*inputs.values()]
        self._model, self._cache, self._logits = model, cache, logits
        first = next(model.parameters())
        self._run, self.how = (self._captured if first.is_cuda else self._traced)()

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        return self._run()

    def _pass(self, *tensors: Tensor) -> Tensor:
        """The pass itself, from where it starts."""
        if self._cache is not None:
            self._cache.position = self._start
        given = {"ids": None} | dict(zip(self._names, tensors, strict=True))
        return self._model(cache=self._cache, logits=self._logits, **given)

    @torch.inference_mode()
    def _captured(self) -> tuple[Callable[[], Tensor], str]:
        """All kernels of the pass in one graph. Raises ArchlabError where something in it cannot be captured."""
        device = self._tensors[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._pass(*self._tensors)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                made = self._pass(*self._tensors)
        except RuntimeError as problem:
            why = str(problem).splitlines()[0]
            raise ArchlabError(f"{self._model.spec.name} cannot run as one CUDA graph: {why}") from problem

        def replay() -> Tensor:
            graph.replay()
            return made

        return replay, "CUDA graph"

    @torch.inference_mode()
    def _traced(self) -> tuple[Callable[[], Tensor], str]:
        plain = lambda: self._pass(*self._tensors)  # noqa: E731
        with Looks() as looks:
            plain()  # what is made once (scales, angles) is made before
        if looks.taken or any(parameter.requires_grad for parameter in self._model.parameters()):
            return plain, "Python"
        self._states = [] if self._cache is None else [*self._cache.states.values()]
        given = (*self._tensors, *(state.buffer for state in self._states))
        with warnings.catch_warnings(), _buffers_kept(self._states):
            warnings.simplefilter("ignore")  # TorchScript's age, and shapes that decide: they stay as they are
            trace = torch.jit.trace(self._pass_on, given, check_trace=False)

        def replay() -> Tensor:
            with torch.jit.optimized_execution(False):  # else the first two runs are spent on passes over the graph
                made: Tensor = trace(*given)
            return made

        return replay, "TorchScript trace"

    def _pass_on(self, *given: Tensor) -> Tensor:
        """The pass on buffers that are given too: a trace drops writes to what it takes for constants."""
        tokens = len(self._tensors)
        for state, buffer in zip(self._states, given[tokens:], strict=True):
            state.buffer = buffer
        return self._pass(*given[:tokens])


@contextmanager
def _buffers_kept(states: Sequence[Slots | Ring | Whole]) -> Iterator[None]:
    """The states have their own buffers again afterwards, not those that a trace knows them as."""
    kept = [state.buffer for state in states]
    try:
        yield
    finally:
        for state, buffer in zip(states, kept, strict=True):
            state.buffer = buffer


LOOKING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Operations whose result, or its shape, a program can act on."""


class Looks(TorchDispatchMode):
    """Whether a value was looked at: then it may have decided what ran, and a recording would not notice another."""

    taken = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.taken = self.taken or not LOOKING.isdisjoint(func.tags)
        return func(*args, **(kwargs or {}))
