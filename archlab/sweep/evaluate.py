"""Many design points through the formulas that one goes through.

They run once for each structure (archlab.sweep.survey), on placeholders; what they did is then a program of numpy
passes (archlab.columns), run over as many points as there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archlab.algebra import is_scalar
from archlab.analyzers.memory import setting
from archlab.engines import load_engine
from archlab.engines.base import Engine
from archlab.errors import SpecError
from archlab.hardware import Hardware, load_hardware
from archlab.precision import Precision, load_precision
from archlab.spec import ModelSpec
from archlab.sweep.axes import PLACE_KEYS, Axis, axes_of, groups, structural_keys
from archlab.sweep.hold import Budget, budget
from archlab.sweep.measures import Asked
from archlab.sweep.points import Points, positions
from archlab.sweep.survey import Survey
from archlab.workload import Workload

__all__ = ["Points", "Survey", "evaluate", "positions", "survey"]


def evaluate(
    spec: ModelSpec,
    work: Workload,
    hardware: str | Hardware | None = None,
    precision: str | Precision = "bf16",
    grid: Mapping[str, Sequence[Any]] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    hold: str | Budget | None = None,
    engine: str | Engine = "ideal",
    memory: bool = False,
    limits: bool | str = False,
    per_character: bool = False,
) -> Points:
    """Parameters, exact FLOPs of both phases, KV cache, weights and latency bounds of every point.

    Where the device is calibrated for the precision: predicted latencies too, and the error of such predictions.

    Returned is a mesh: points["kv_cache_bytes"] has an axis a key of `grid`, in their order, and last that of
    `columns`. Units are in the columns' names (_bytes, _s, flops_); `precision` is a name, a path or a Precision.

    grid     key -> values; the points are all combinations
    columns  key -> values, all of one length; position i of each makes point i
    Keys are paths into the model (`attention.n_kv_heads`, or with `model.` before it), or workload.context, .batch,
    .source, .images, .prefix, or hardware, precision and engine (names), or hardware.memory_bytes,
    .bandwidth_bytes_per_s, .peak_flops.bf16 ... of the device. A source or a prefix as long as the context follows a
    changed context.
    hold     params | flops | kv_cache | memory: rescales d_ff of each point to keep the spec's own amount, to a
             multiple of 64; or a Budget (archlab.sweep.hold), which may solve for n_layers or d_model
    engine   whose cache kv_cache_bytes is (ideal: what the mathematics needs), and whose memory
    memory   adds memory_bytes (needed), memory_reserved_bytes, memory_budget_bytes, memory_host_bytes, a
             memory_<part>_bytes each for weights, kv_cache, activations and runtime, and fits; needs hardware
    limits   adds max_context (tokens at this batch) and max_batch (sequences of this context) to these, or with
             "context" or "batch" one of them; bounds are then left out, not refused, where the device has no rate for
             the format
    per_character   adds what a character of English web text costs, since a large vocabulary needs fewer tokens
    `work` is a prefill: its decode step is computed beside it.
    A column that some structures lack (`params_moe` of a dense model) is NaN, or None, at their points.
    Raises ArchlabError for an unknown key; a point that breaks a rule is masked, not raised.
    """
    asked = Asked(setting(hardware, precision, engine), memory or bool(limits), limits, per_character)
    return survey(spec, work, asked, grid, columns, hold).points()


def survey(
    spec: ModelSpec,
    work: Workload,
    asked: Asked,
    grid: Mapping[str, Sequence[Any]] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    hold: str | Budget | None = None,
) -> Survey:
    """The points of a design space, to be computed whole or part by part. Arguments and errors are `evaluate`'s."""
    _check_work(work)
    axes = axes_of(spec, grid or {}, columns or {})
    _check_names(axes)
    if not any(key in axis.values for axis in axes for key in PLACE_KEYS):
        asked.check()
    hold = budget(hold, spec, work, at=asked.at) if isinstance(hold, str) else hold
    if hold is not None and any(hold.by in axis.values for axis in axes):
        raise SpecError(f"hold rescales {hold.by}, so {hold.short} cannot be an axis too; drop one of them")
    named = [name for axis in axes for name in axis.values.get("precision", ())]
    by_position = any(load_precision(name).by_position for name in named or [asked.at.precision])
    structures = [groups(axis, structural_keys(spec, axis, by_position)) for axis in axes]
    return Survey(spec, work, asked, axes, structures, hold)


def _check_names(axes: Sequence[Axis]) -> None:
    """Raises ArchlabError for a name that is unknown; whether places go together is a matter of each point."""
    load: dict[str, Callable[[Any], Any]] = {
        "hardware": load_hardware, "precision": load_precision, "engine": load_engine,
    }  # fmt: skip
    for key, axis in ((key, axis) for axis in axes for key in PLACE_KEYS if key in axis.values):
        for name in {repr(name): name for name in axis.values[key]}.values():
            load[key](name)


def _check_work(work: Workload) -> None:
    if work.train:
        raise SpecError("evaluate computes prefill and decode, not training; use flops for one training step")
    if is_scalar(work.new) and work.new != work.context:
        raise SpecError(f"evaluate takes a prefill (new = context), not new={work.new} of context={work.context}")
