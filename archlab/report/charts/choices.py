"""The switches of a card: workload, device, precision and engine, each where the run has more than one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from archlab.report import metrics
from archlab.report.load import Run
from archlab.report.parts import Switch

At = dict[str, str | None]


Devices = bool | Sequence[str]
"""Whether pictures differ by device: for all devices of the run, or for these."""


def options(run: Run, hardware: Devices) -> dict[str, list[tuple[str, str]]]:
    """Dimension -> its (key, label)s; the workload with the longest context first, as it is drawn first."""
    found = {"workload": [(w, metrics.work_words(run, w)) for w in metrics.by_reach(run)]}
    if len({label for _, label in found["workload"]}) < len(found["workload"]):
        found["workload"] = [(w, w) for w, _ in found["workload"]]
    if hardware:
        devices = metrics.devices(run) if hardware is True else hardware
        found["hardware"] = [(h, metrics.device_title(run, h)) for h in devices]
    found["precision"] = [(p, p) for p in metrics.precisions(run)]
    found["engine"] = [(e, e) for e in metrics.engines(run)]
    return {k: v for k, v in found.items() if v}


SAID = {"workload": "At", "hardware": "On", "precision": "In", "engine": "By"}
"""Dimension -> the word before its choices."""


def switches(
    run: Run, hardware: Devices, states: Iterable[str], first: Mapping[str, str | None] | None = None
) -> tuple[Switch, ...]:
    """A switch for each dimension with a choice. On is `first`, else the first state with numbers, of the longest."""
    found = {k: v for k, v in options(run, hardware).items() if len(v) > 1}
    if not found:
        return ()
    roomy = metrics.roomiest(run)
    orders = [reversed(v) if k == "workload" else v for k, v in found.items()]
    orders = [
        sorted(v, key=lambda o: roomy.index(o[0])) if k == "hardware" else v for k, v in zip(found, orders, strict=True)
    ]
    if first is not None:
        orders = [sorted(v, key=lambda o: o[0] != first.get(k)) for k, v in zip(found, orders, strict=True)]
    there = set(states)
    ranked = itertools.product(*([key for key, _ in order] for order in orders))
    on = next((state for state in ranked if "/".join(state) in there), tuple(v[0][0] for v in found.values()))
    return tuple(Switch(SAID[k], tuple(v), chosen) for (k, v), chosen in zip(found.items(), on, strict=True))


def names(run: Run, hardware: Devices) -> dict[str, str]:
    """State of the switches -> how people would say it: 'at 128k tokens on GeForce RTX 4090'."""
    found = {k: v for k, v in options(run, hardware).items() if len(v) > 1}
    states = itertools.product(*([(key, f"{SAID[k].lower()} {label}") for key, label in v] for k, v in found.items()))
    return {"/".join(key for key, _ in state): " ".join(label for _, label in state) for state in states}


def variants(run: Run, hardware: Devices, draw: Callable[[At], Any]) -> dict[str, Any]:
    """State of the switches -> what `draw` makes of that workload, device and precision; what is None is left out."""
    found = options(run, hardware)
    made = {}
    for state in itertools.product(*found.values()):
        at: At = {k: key for k, (key, _) in zip(found, state, strict=True)}
        drawn = draw(at)
        if drawn is not None:
            made["/".join(at[k] or "" for k in found if len(found[k]) > 1)] = drawn
    return made
