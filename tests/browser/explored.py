"""A state of the explorer, drawn at random, and what Python says of the same design."""

from __future__ import annotations

import random
from typing import Any

import archlab
from archlab.analyzers.memory import setting
from archlab.errors import ArchlabError
from archlab.spec import ModelSpec
from archlab.sweep.explorer import PRECISIONS, Explored
from archlab.sweep.measures import Asked, measures
from archlab.workload import Workload

DEVICES = ("h100-sxm", "h200-sxm", "l4", "rtx-4090", "m4-max-128", "mi300x")
CONTEXTS = (1, 17, 512, 1000, 4096, 8192, 33_000, 131_072)
ABSENT = ("predicted",)
"""The page has bounds alone."""


def drawn(found: Explored, rng: random.Random) -> dict[str, Any]:
    """Half of the sizes at a stop of their sliders or a whole number beside it, the others as they are."""
    sizes = {f["key"]: f["base"] for f in found.fields}
    for field in found.fields:
        if "fixed" not in field and rng.random() < 0.5:
            sizes[field["key"]] = max(1, rng.choice(field["stops"]) + rng.choice((0, 0, 0, 1, -1)))
    return {
        "model": found.name, "sizes": sizes, "pattern": rng.randrange(max(len(found.patterns), 1)),
        "context": rng.choice(CONTEXTS), "batch": rng.choice((1, 2, 7, 64)),
        "precision": rng.choice(PRECISIONS), "device": rng.choice(DEVICES),
    }  # fmt: skip


def changes(found: Explored, spec: ModelSpec, state: dict[str, Any]) -> dict[str, Any]:
    """The state as keys of the model's file."""
    pattern = found.patterns[state["pattern"]]["pattern"] if found.patterns else None
    free = [f["key"] for f in found.fields if "fixed" not in f]
    read = [k for k in free if pattern is None or k.partition(".")[0] not in {*found.kinds} - {*pattern}]
    own = {key: state["sizes"][key] for key in read}
    return own if pattern is None else {"pattern": pattern, **own}


def numbers(found: Explored, spec: ModelSpec, state: dict[str, Any]) -> dict[str, Any] | str:
    """What archlab says of a state: its numbers, or why it cannot be."""
    source = {"source": state["context"], "new_source": state["context"]} if spec.encoder is not None else {}
    try:
        changed = archlab.load(found.name, changes(found, spec, state))
        work = Workload(state["batch"], new=state["context"], context=state["context"], logits="last", **source)
        at = setting(state["device"], state["precision"], "ideal")
        return measures(changed, work, Asked(at, memory=True, limits=True))
    except ArchlabError as problem:
        return str(problem)


def differences(page: dict[str, Any], python: dict[str, Any]) -> list[str]:
    """What is not the same: whole numbers exactly below 2**53, others to 1e-12, what is not known of either."""
    wrong = []
    for name, value in python.items():
        if any(word in name for word in ABSENT):
            continue
        shown = page.get(name)
        exact = isinstance(value, bool | int) and abs(value) < 2**53
        if shown is None or (shown != value if exact else abs(shown - value) > 1e-12 * abs(value)):
            wrong.append(f"{name}: the page has {shown}, archlab {value}")
    return wrong
