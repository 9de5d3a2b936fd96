"""A design point through the public functions, one at a time: what a column must equal; and whether it does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import archlab
from archlab.analyzers.memory import setting
from archlab.analyzers.params import weight_bytes
from archlab.assemble import rules
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import load_hardware
from archlab.precision import load_precision
from archlab.spec import ModelSpec
from archlab.text import tokens_per_character
from archlab.workload import Workload

Place = Mapping[str, Any]
"""hardware, precision, engine: names, or what was loaded."""


def placed(place: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """The place with a point's own names, and its own numbers of the device."""
    found = {**place, **{key: values[key] for key in ("hardware", "precision", "engine") if key in values}}
    numbers = {key.removeprefix("hardware."): v for key, v in values.items() if key.startswith("hardware.")}
    if numbers:
        device = load_hardware(found["hardware"])
        rates = {k.removeprefix("peak_flops."): numbers.pop(k) for k in [*numbers] if k.startswith("peak_flops.")}
        unmeasured = {"usable_bytes": None} if "memory_bytes" in numbers else {}
        found["hardware"] = replace(
            device, **numbers, **unmeasured, peak_flops={**device.peak_flops, **rates}, measured=None
        )
    return found


def sized(work: Workload, values: Mapping[str, Any]) -> Workload:
    """The prefill with a point's own sizes."""
    own = {key.removeprefix("workload."): v for key, v in values.items() if key.startswith("workload.")}
    context = own.get("context", work.context)
    follows = {name: context for name in ("source", "prefix") if getattr(work, name) == work.context != 0}
    sizes = {name: own.get(name, follows.get(name, getattr(work, name))) for name in ("source", "images", "prefix")}
    return Workload(own.get("batch", work.batch), context, context, logits=work.logits, **sizes)


def shaped(base: ModelSpec, values: Mapping[str, Any]) -> ModelSpec:
    """The model with a point's own keys."""
    own = {
        k: v
        for k, v in values.items()
        if not k.startswith(("workload.", "hardware")) and k not in ("precision", "engine")
    }
    return archlab.load(base.name, own)


def refusal(base: ModelSpec, work: Workload, place: Place, values: Mapping[str, Any]) -> str | None:
    """The sentence of the first function that refuses a point; None where all take it."""
    try:
        spec, at, asked = shaped(base, values), placed(place, values), sized(work, values)
        for _, condition, sentence in rules(spec):
            if condition is False:
                raise SpecError(sentence())
        setting(at["hardware"], at["precision"], at["engine"])
        archlab.params(spec)
        archlab.flops(spec, asked)
        if spec.decodes:
            archlab.flops(spec, asked.decode())
        if at["hardware"] is not None:
            archlab.memory(spec, asked, at["hardware"], at["precision"], at["engine"])
            if place.get("timed", True):
                archlab.latency(spec, asked, at["hardware"], at["precision"])
        else:
            for condition, sentence in load_rules(at["engine"], asked):
                if condition is False:
                    raise SpecError(sentence())
    except ArchlabError as problem:
        return str(problem)
    return None


def load_rules(engine: Any, work: Workload) -> Any:
    """What an engine asks of a workload."""
    return setting(None, "bf16", engine).engine.rules(work)


def numbers(base: ModelSpec, work: Workload, place: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of one point, by the public functions."""
    spec, at, asked = shaped(base, values), placed(place, values), sized(work, values)
    counted = archlab.params(spec)
    found = {
        "params": counted.total,
        "active_params": counted.active,
        "weights_bytes": weight_bytes(spec, load_precision(at["precision"])),
    }
    found |= {f"params_{part}": n for part, n in counted.by_part.items()}
    phases = {"prefill": asked} | ({"decode": asked.decode()} if spec.decodes else {})
    if spec.decodes:
        engine = setting(at["hardware"], at["precision"], at["engine"]).engine  # vLLM's chunk depends on the device
        cache = archlab.kv_cache(
            spec, asked.context, asked.batch, load_precision(at["precision"]), engine, asked.source
        )
        found |= {"kv_cache_bytes": cache.total, **{f"kv_{part}_bytes": n for part, n in cache.by_part.items()}}
    for phase, step in phases.items():
        counts = archlab.flops(spec, step)
        found |= {f"flops_{phase}": counts.total, f"flops_{phase}_dense": counts.dense}
        if at["hardware"] is not None and place.get("timed", True):
            found |= times(phase, archlab.latency(spec, step, at["hardware"], at["precision"]))
    if at["hardware"] is not None and place.get("memory", True):
        found |= held(spec, asked, at)
    return found


def times(phase: str, found: Any) -> dict[str, Any]:
    """Columns of a phase's bound; of its prediction where there is one."""
    named = {f"{phase}_bound_s": found.bound_seconds, f"{phase}_bound_by": found.compute > found.memory}
    if found.source == "bound":
        named |= {f"{phase}_bound_{part}_s": seconds for part, seconds in found.by_part.items()}
    if found.source == "predicted":
        named |= {f"{phase}_predicted_s": found.seconds}
    return named


def held(spec: ModelSpec, work: Workload, at: Place) -> dict[str, Any]:
    """Columns of memory."""
    found = archlab.memory(spec, work, at["hardware"], at["precision"], at["engine"])
    return {
        "memory_bytes": found.needed, "memory_reserved_bytes": found.reserved, "memory_budget_bytes": found.budget,
        "memory_host_bytes": found.host, "fits": found.fits,
        **{f"memory_{part}_bytes": found.by_part.get(part, 0) for part in ("weights", "kv_cache", "activations", "runtime")},
    }  # fmt: skip


def limits_of(base: ModelSpec, work: Workload, place: Place, values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of limits: slow, one at a time."""
    from archlab.analyzers.fit import fit_in

    spec, at, asked = shaped(base, values), placed(place, values), sized(work, values)
    found = fit_in(spec, asked, setting(at["hardware"], at["precision"], at["engine"]), remedies=False)
    return {"max_context": found.max_context, "max_batch": found.max_batch}


def of_a_character(spec: ModelSpec, work: Workload, found: Mapping[str, Any]) -> dict[str, Any]:
    """Costs of a character of text, of a point's other columns."""
    rate = tokens_per_character(spec.vocab_size)
    tokens = work.batch * work.context
    return {
        "tokens_per_character": rate,
        "flops_prefill_per_character": found["flops_prefill"] / tokens * rate,
        "flops_decode_per_character": found["flops_decode"] / work.batch * rate,
        "kv_cache_per_character_bytes": found["kv_cache_bytes"] / tokens * rate,
        "prefill_bound_per_character_s": found["prefill_bound_s"] / tokens * rate,
        "decode_bound_per_character_s": found["decode_bound_s"] / work.batch * rate,
    }


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Columns that are not what they must be: whole numbers below 2**53 exactly, others within 1e-12."""
    wrong = []
    for name, value in expected.items():
        is_exact = isinstance(value, int) and value < 2**53
        same = found[name] == value if is_exact else abs(found[name] - value) <= 1e-12 * abs(value)
        if not same:
            wrong.append(f"{name}: {found[name]!r}, alone {value!r}")
    return wrong


# ---------------------------------------------------------------- against columns


def value_at(points, name, position):
    """A column's value at a point, as Python's."""
    return (
        points[name][position].item()
        if points.columns[name].dtype != bool
        else bool(np.broadcast_to(points.columns[name], points.shape)[position])
    )


def check(points, base, work, place, places, limits=0):
    """Points against each of them alone; the first few with their limits too."""
    ok = np.broadcast_to(points.ok, points.shape)
    for n, position in enumerate(places):
        values, bare = points.at(position), {}
        said = refusal(base, work, place, values)
        if points.survey.hold is not None and said is None:
            bare = {points.survey.hold.by: int(points[points.survey.hold.short][position])} if ok[position] else {}
        assert bool(ok[position]) == (said is None and (points.survey.hold is None or bool(bare))), (values, said)
        if not ok[position]:
            assert points.reason(position) == (said or points.survey.hold.refusal), values
            continue
        values = {**values, **bare}
        expected = numbers(base, work, place, values)
        if n < limits:
            expected |= limits_of(base, work, place, values)
        assert set(expected) <= set(points.columns)
        found = {name: value_at(points, name, position) for name in expected}
        assert not differences(found, expected), (base.name, place, values)
