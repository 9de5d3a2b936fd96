"""archlab check: each closed form beside what the built module, or a tracer of it, says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from archlab.cli.screen import bold, dim, table
from archlab.nn.audit import Audit, audit, counted_only, telling_context
from archlab.nn.peaks import ALLOWED, Compared, MemoryCheck, check_memory
from archlab.spec import ModelSpec
from archlab.units import show_bytes, show_tokens

Found = tuple[bool, dict[str, Any], Callable[[], str]]
"""Whether all agrees, the JSON document, the screen."""


def audited(spec: ModelSpec, context: int | None, batch: int) -> Found:
    """Parameters, cache and FLOPs."""
    found = audit(spec, context=context, batch=batch)
    return found.ok, found.as_dict(), partial(screen, found)


def tracked(spec: ModelSpec, context: int | None, batch: int) -> Found:
    """Peak memory."""
    found = check_memory(spec, telling_context(spec) if context is None else context, batch)
    return found.ok, found.as_dict(), partial(memory_screen, found, counted_only(spec))


def records(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table for CSV, a check or a step each, the model and what it ran at before them."""
    rows = document["steps"] if "steps" in document else document["checks"]
    return [{key: document[key] for key in ("model", "context", "batch")} | row for row in rows]


def screen(found: Audit) -> str:
    """One line a check, and the verdict."""
    rows = [
        [c.what, f"{c.closed_form:,}", f"{c.module:,}", "equal" if c.agree else "DIFFERS", c.source]
        for c in found.checks
    ]
    good = sum(c.agree for c in found.checks)
    lines = [
        f"{bold(found.model)}   closed forms against the module built on the meta device",
        table(["what", "closed form", "module", "", "counted by"], rows, left=(0, 3, 4)),
        bold(f"{good} of {len(found.checks)} checks agree"),
        dim("dense: full rectangles of scores, as tracers see them; archlab's exact counts keep only what masks keep"),
        *_left_out(found.left_out),
    ]
    return "\n".join(lines)


def memory_screen(found: MemoryCheck, left_out: dict[str, int]) -> str:
    """The peak of each step, tracked and by the rows, what it is made of, and the verdict."""
    rows = [_step(step) for step in found.steps]
    parts = [_parts(step) for step in found.steps]
    good = sum(step.ok for step in found.steps)
    size = f"{show_tokens(found.context)} tokens" + (f" x {found.batch}" if found.batch > 1 else "")
    traced = {step.tracked.traced for step in found.steps}
    layers = found.steps[0].tracked.layers
    how = f"all {layers} layers run" if traced == {layers} else f"extrapolated to {layers} layers from {max(traced)}"
    lines = [
        f"{bold(found.model)}   peak memory of a step, {size}, bf16, eager attention",
        table(["step", "tracked", "rows", "error", "", "peak at"], rows, left=(0, 4, 5)),
        "",
        table(["of the tracked peak", "parameters", "cache", "activations", "gradients"], parts),
        bold(f"{good} of {len(found.steps)} within {ALLOWED:.0%}"),
        dim(f"tracked: torch's memory tracker on fake tensors, nothing allocated; {how}"),
        dim("training: forward, cross-entropy of all logits in fp32, backward; no optimizer"),
        dim("bytes of tensors: an allocator rounds, and a device has a context and workspaces besides"),
        *_left_out(left_out),
    ]
    return "\n".join(lines)


def _step(step: Compared) -> list[str]:
    verdict = "" if step.ok else "OFF"
    sizes = [show_bytes(step.tracked.total), show_bytes(step.rows.total)]
    return [step.tracked.step, *sizes, f"{step.error:+.1%}", verdict, step.tracked.at]


def _parts(step: Compared) -> list[str]:
    held = step.tracked.by_category
    return [step.tracked.step, *(show_bytes(held[c]) for c in ("parameters", "cache", "activations", "gradients"))]


def _left_out(counted: dict[str, int]) -> list[str]:
    """A line on towers that are no module."""
    if not counted:
        return []
    named = " and ".join(f"{name} ({count:,} parameters)" for name, count in counted.items())
    return [dim(f"not built, so not checked: {named}, known by number only")]
