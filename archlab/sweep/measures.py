"""Every calculated number of a model at a workload: one model's, or a mesh of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archlab.algebra import Number, is_placeholder, is_scalar
from archlab.analyzers.fit import max_batch, max_context
from archlab.analyzers.flops import flops
from archlab.analyzers.kernels import kernels
from archlab.analyzers.kv_cache import cache_items
from archlab.analyzers.latency import bound, calibration_of, predicted
from archlab.analyzers.memory import Memory, Setting, memory_in
from archlab.analyzers.params import params, weight_bytes
from archlab.errors import SpecError, nearest
from archlab.hardware import Hardware
from archlab.items import by_kind
from archlab.ledger import Ledger, ledger
from archlab.precision import Precision
from archlab.spec import ModelSpec
from archlab.text import tokens_per_character
from archlab.workload import Workload

LIMITS = (True, False, "context", "batch")

MEMORY_PARTS = ("weights", "kv_cache", "activations", "runtime")
"""Parts of a served model's memory, each a column memory_<part>_bytes."""

LABELS = {f"{phase}_bound_by": ("memory", "compute") for phase in ("prefill", "decode")}
"""Columns that are computed as false or true, and what those are called."""

PER_CHARACTER = ("flops_prefill", "flops_decode", "prefill_bound_s", "decode_bound_s", "prefill_predicted_s",
                 "decode_predicted_s", "kv_cache_bytes")  # fmt: skip
"""Costs that are given per character of text too."""


@dataclass(frozen=True)
class Asked:
    """Where the points run, and what is to be computed of them beside parameters, FLOPs, cache and bounds.

    limits  True: the longest context and the largest batch; "context" or "batch": one of them
    """

    at: Setting
    memory: bool = False
    limits: bool | str = False
    per_character: bool = False

    def __post_init__(self) -> None:
        if self.limits not in LIMITS:
            words = " or ".join(repr(x) for x in LIMITS)
            raise SpecError(f"limits={self.limits!r} must be {words}{nearest(str(self.limits), ('context', 'batch'))}")

    @property
    def timed(self) -> Hardware | None:
        """The device, where it has a rate for the format of the products: else there are no bounds."""
        device = self.at.device
        return device if device is not None and self.at.precision.compute in device.peak_flops else None

    def check(self) -> None:
        """Raises SpecError for memory of no device, and for a device that lacks the format, unless limits are asked."""
        if self.at.device is None and self.memory:
            raise SpecError("memory and limits need hardware")
        if self.at.device is not None and not self.limits:
            self.at.device.flops_per_s(self.at.precision.compute)

    def changed(self, numbers: Mapping[str, Number]) -> Asked:
        """With other numbers of the device: one that nobody measured, and all of whose memory a program can have."""
        own = {key.removeprefix("hardware."): n for key, n in numbers.items() if key.startswith("hardware.")}
        if not own or self.at.device is None:
            return self
        peaks = {k.removeprefix("peak_flops."): n for k, n in own.items() if k.startswith("peak_flops.")}
        plain = {k: n for k, n in own.items() if not k.startswith("peak_flops.")}
        if "memory_bytes" in plain:
            plain["usable_bytes"] = None
        device = replace(self.at.device, **plain, peak_flops={**self.at.device.peak_flops, **peaks}, measured=None)
        return replace(self, at=replace(self.at, device=device, capacity=device.available_bytes))


def measures(spec: ModelSpec, work: Workload, asked: Asked) -> dict[str, Number]:
    """Every calculated number. `<phase>_bound_by` is whether compute takes more than memory: LABELS has the words."""
    at = asked.at
    counted, phases = params(spec), {"prefill": work}
    found: dict[str, Number] = {"params": counted.total, "active_params": counted.active}
    found |= {f"params_{part}": n for part, n in counted.by_part.items()}
    found |= {"weights_bytes": weight_bytes(spec, at.precision)}
    if spec.decodes:
        phases["decode"] = work.decode()
        cache = by_kind(cache_items(spec, work, at.precision, at.engine))
        found |= {"kv_cache_bytes": sum(cache.values())} | {f"kv_{part}_bytes": n for part, n in cache.items()}
    if asked.memory:
        found |= memory_columns(memory_in(spec, work, at))
    if asked.limits in (True, "context"):
        found["max_context"] = max_context(spec, work, at)
    if asked.limits in (True, "batch"):
        found["max_batch"] = max_batch(spec, work, at)
    for phase, step in phases.items():
        rows = ledger(spec, step)
        counts = flops(spec, step)
        found |= {f"flops_{phase}": counts.total, f"flops_{phase}_dense": counts.dense}
        if asked.timed is not None:
            found |= _times(phase, rows, asked.timed, at.precision)
    return found | (per_character(spec, work, found) if asked.per_character else {})


def _times(phase: str, rows: Ledger, device: Hardware, precision: Precision) -> dict[str, Number]:
    """The bound of one phase, and what is predicted where the device is calibrated, with the held-out error."""
    least, calibration = bound(rows, device, precision), calibration_of(device, precision)
    found = {
        f"{phase}_bound_s": least.seconds,
        f"{phase}_bound_by": least.compute > least.memory,
        **{f"{phase}_bound_{part}_s": seconds for part, seconds in least.by_part.items()},
    }
    if calibration is None:
        return found
    by_part = predicted(kernels(rows, precision), calibration)
    found |= {f"{phase}_predicted_s": sum(by_part.values())}
    found |= {f"{phase}_predicted_{part}_s": seconds for part, seconds in by_part.items()}
    return found | {
        "predicted_error_median": calibration.error.median,
        "predicted_error_p90": calibration.error.p90,
    }


def memory_columns(found: Memory) -> dict[str, Any]:
    """What a device must hold, by part, beside what it can."""
    parts = found.by_part
    return {
        "memory_bytes": found.needed,
        **{f"memory_{part}_bytes": parts.get(part, 0) for part in MEMORY_PARTS},
        "memory_host_bytes": found.host,
        "memory_reserved_bytes": found.reserved,
        "memory_budget_bytes": found.budget,
        "fits": found.fits,
    }


def per_character(spec: ModelSpec, work: Workload, found: Mapping[str, Number]) -> dict[str, Number]:
    """Costs of a character of English web text, whose tokens are fewer where the vocabulary is larger: of the prompt's
    characters, and of one that is written.

    `tokens_per_character` is NaN beyond the vocabularies that were measured (archlab.text), and so is what follows.
    """
    vocab = spec.vocab_size
    rate = _rate(vocab)
    tokens = work.batch * work.context
    costs: dict[str, Number] = {"tokens_per_character": rate}
    for name in (n for n in PER_CHARACTER if n in found):
        over = tokens if name.startswith(("flops_prefill", "prefill")) or name == "kv_cache_bytes" else work.batch
        stem, _, unit = name.rpartition("_") if name.endswith(("_s", "_bytes")) else (name, "", "")
        costs[f"{stem}_per_character" + (f"_{unit}" if unit else "")] = found[name] / over * rate
    return costs


def _rate(vocab: Number) -> Number:
    if is_placeholder(vocab):
        from archlab.columns.traced import tabled

        return tabled(vocab, tokens_per_character)
    if is_scalar(vocab):
        try:
            return tokens_per_character(vocab)
        except SpecError:
            return float("nan")
    return tokens_per_character(vocab)


def labelled(name: str, values: Any) -> Any:
    """A column as people read it: words in place of false and true where it has words; None stays None."""
    if name not in LABELS:
        return values
    no, yes = LABELS[name]
    array = np.asarray(values)
    if array.dtype != object:
        return np.where(array.astype(bool), yes, no)
    return np.array([None if v is None else yes if v else no for v in array.flat], dtype=object).reshape(array.shape)
