"""archlab fit: the ledger of one model on one device, or a table of several."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from archlab.algebra import is_scalar
from archlab.analyzers.fit import MOST_BATCH, MOST_CONTEXT, Fit, fit_in, minimum_context, workload
from archlab.analyzers.memory import Setting
from archlab.cli.screen import bold, dim, say, table
from archlab.items import CALCULATED, Item
from archlab.spec import ModelSpec
from archlab.units import show_bytes, show_gib, show_tokens
from archlab.workload import Workload

PARTS = {
    "weights": "weights", "kv_cache": "cache", "activations": "activations", "gradients": "gradients",
    "optimizer": "optimizer", "runtime": "runtime",
}  # fmt: skip
"""Part -> its heading, in the order in which people read them."""

WIDTH = 96
LEFT = 24
"""Columns of the screen, and of the first column of a ledger."""

VERDICTS = {"fits": "fits", "tight": "fits, tight", "no": "does not fit"}


@dataclass(frozen=True)
class Asked:
    """One model on one device, and the answer."""

    spec: ModelSpec
    at: Setting
    work: Workload
    answer: Fit


def ask(
    specs: Sequence[ModelSpec], settings: Sequence[Setting], batch: int, context: int | None, images: int = 0
) -> list[Asked]:
    """Every model on every device. A context beyond a model's is computed, and said on stderr. Raises ArchlabError."""
    asked = []
    tokens = min(minimum_context(spec) for spec in specs) if context is None else context
    for spec in specs:
        for at in settings:
            work = workload(spec, batch, tokens, train=at.training is not None)
            work = replace(work, images=images, new_images=images)
            asked.append(Asked(spec, at, work, fit_in(spec, work, at)))
        if tokens > spec.context:
            say(f"archlab: {spec.name} was trained for {show_tokens(spec.context)} tokens; computed for {tokens:,}")
    return asked


def facts(asked: Asked) -> dict[str, Any]:
    """One answer as JSON: bytes, tokens, sequences."""
    answer, at = asked.answer, asked.at
    found = answer.memory
    return {
        "model": asked.spec.name,
        "hardware": at.device.name if at.device else None,
        "precision": at.precision.name,
        "kv": at.engine.cache_words(at.precision),
        "engine": at.engine.name,
        "engine_options": asdict(at.engine),
        "parallel": asdict(at.parallel),
        "training": asdict(at.training) if at.training else None,
        "context": answer.context,
        "batch": answer.batch,
        "verdict": answer.verdict,
        "needed_bytes": found.needed,
        "reserved_bytes": found.reserved,
        "budget_bytes": found.budget,
        "capacity_bytes": found.capacity,
        "host_bytes": found.host,
        "notes": list(found.notes),
        "by_part": found.by_part,
        "items": [asdict(item) for item in found.items],
        "ranks": [{"stage": on.rank.stage, "count": on.rank.count, "bytes": on.total} for on in found.ranks],
        "max_context": answer.max_context,
        "trained_context": answer.trained_context,
        "max_batch": answer.max_batch,
        "tokens_per_s_bound": answer.tokens_per_s,
        "remedies": [asdict(remedy) for remedy in answer.remedies],
    }


def matrix(asked: Sequence[Asked]) -> str:
    """A line for each model on each device."""
    rows = [
        [
            a.spec.name,
            a.at.device.name if a.at.device else "-",
            show_gib(a.answer.memory.needed),
            show_gib(a.answer.memory.budget),
            VERDICTS[a.answer.verdict],
            context_words(a.answer.max_context),
            batch_words(a.answer.max_batch),
            rate_words(a.answer),
        ]
        for a in asked
    ]
    head = ["model", "device", "needed", "of", "", "most tokens", "most seqs", "tok/s"]
    first = asked[0]
    foot = (
        f"{how(first)}; most tokens at batch {first.work.batch}, most sequences at {show_tokens(first.work.context)}; "
        "tok/s: bound while decoding"
    )
    return table(head, rows, left=(0, 1, 4)) + "\n" + dim(foot)


def screen(asked: Asked) -> str:
    """One model on one device: the verdict, the ledger, how far it would go, and what would make it fit."""
    return "\n".join([*_verdict(asked), "", _ledger(asked), "", *_limits(asked), *_remedies(asked)])


def how(asked: Asked) -> str:
    """'bf16, cache fp8, vllm, tp 2'."""
    at = asked.at
    cache = at.engine.cache_words(at.precision)
    kv = f", cache {cache}" if cache != at.precision.name else ""
    usual = type(at.engine)() if at.device is None else type(at.engine)().on(at.device)
    names = [f.name for f in fields(at.engine)]
    changed = [f"{n}={getattr(at.engine, n)}" for n in names if getattr(at.engine, n) != getattr(usual, n)]
    return ", ".join([at.precision.name + kv, " ".join([at.engine.name, *changed]), *_split(at)])


def _split(at: Setting) -> list[str]:
    return [
        f"{f.name} {getattr(at.parallel, f.name)}" for f in fields(at.parallel) if getattr(at.parallel, f.name) != 1
    ]


def _verdict(asked: Asked) -> Iterator[str]:
    at, found, work = asked.at, asked.answer.memory, asked.work
    what = "training step" if work.train else "serving"
    sequences = "1 sequence" if work.batch == 1 else f"{work.batch} sequences"
    replica = " a replica" if at.parallel.dp > 1 else ""
    yield wrapped(
        f"{bold(asked.spec.name)}   {what}, {sequences} of {show_tokens(work.context)}{replica}   {how(asked)}", 4
    )
    device = at.device.name if at.device else "the capacity given"
    of = f"{show_gib(found.budget)} of {device}"
    if found.budget != found.capacity:
        of = f"{show_gib(found.budget)} that {at.engine.name} takes of {device} ({show_gib(found.capacity)})"
    each = f" on the fullest of {at.parallel.ranks} ranks" if at.parallel.ranks > 1 else ""
    words = f"{show_gib(found.left)} left" if found.left >= 0 else f"{show_gib(-found.left)} too much"
    if found.room is not None and found.host:
        words += f", with {show_gib(found.host)} of the host's in the same {show_gib(found.room)}"
    yield wrapped(f"{bold(VERDICTS[found.verdict])}: {show_gib(found.needed)}{each}, of {of}; {words}", 4)
    if at.engine.name == "ideal":
        yield dim("ideal: the least that any program needs; --engine vllm, hf or llama_cpp adds an engine's own rules")


def _ledger(asked: Asked) -> str:
    """Parts and their items, each with how its bytes were had; sources of what is not calculated below."""
    found = asked.answer.memory
    lines: list[str] = []
    sources: dict[str, int] = {}
    for part, heading in PARTS.items():
        items = [item for item in found.items if item.part == part and item.on == "device"]
        if items:
            lines.append(f"{heading:<{LEFT}}{show_gib(sum(i.bytes for i in items)):>12}")
            lines += [line for item in items for line in _lines(item, sources)]
    lines.append(bold(f"{'needed':<{LEFT}}{show_gib(found.needed):>12}"))
    if found.reserved != found.needed:
        taken = f"what {asked.at.engine.name} takes whatever the request"
        lines.append(f"{'reserved':<{LEFT}}{show_gib(found.reserved):>12}   {taken}")
    if found.host:
        lines.append(f"{'host':<{LEFT}}{show_gib(found.host):>12}   tables in the host's memory: a row a token is read")
    notes = [wrapped(f"[{number}] {source}", 4) for source, number in sources.items()]
    notes += [wrapped(note, 0) for note in found.notes]
    return "\n".join([*lines, *(dim(note) for note in notes)])


def _lines(item: Item, sources: dict[str, int]) -> Iterator[str]:
    """An item: kind, size, how; a tag and a number of its source where it is not calculated."""
    how = item.formula
    if item.basis != CALCULATED:
        how += f" ({item.basis} [{sources.setdefault(item.source, len(sources) + 1)}])"
    first, *rest = textwrap.wrap(how, WIDTH - LEFT - 15) or [""]
    yield f"  {item.kind:<{LEFT - 2}}{show_bytes(item.bytes):>12}   {dim(first)}"
    yield from (" " * (LEFT + 15) + dim(line) for line in rest)


def wrapped(text: str, indent: int) -> str:
    """A sentence over lines of the screen's width."""
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent)


def _limits(asked: Asked) -> Iterator[str]:
    answer, work = asked.answer, asked.work
    trained = f"   (trained for {show_tokens(answer.trained_context)})" if is_scalar(answer.trained_context) else ""
    yield f"longest context, batch {work.batch:<6}{context_words(answer.max_context):>12}{trained}"
    replica = "   (a replica)" if asked.at.parallel.dp > 1 else ""
    yield f"largest batch at {show_tokens(work.context):<6} {batch_words(answer.max_batch):>12}{replica}"
    if answer.tokens_per_s is not None and answer.fits:
        yield f"tokens per second, at most {rate_words(answer):>9}   (bound: decoding at {show_tokens(work.context)})"


def _remedies(asked: Asked) -> Iterator[str]:
    answer, work = asked.answer, asked.work
    if answer.verdict != "no":
        return
    shorter = [f"--context {answer.max_context}"] if answer.max_context else []
    fewer = [f"--batch {answer.max_batch}"] if answer.max_batch and work.batch > 1 else []
    lines = [f"  {r.words:<40}{show_gib(r.needed):>12}" for r in answer.remedies]
    lines += [f"  {words}" for words in (*shorter, *fewer)]
    yield ""
    yield ("would fit with one of" if lines else "no single change that was tried makes it fit")
    yield from lines


def context_words(tokens: int) -> str:
    """'36,864', 'none', or 'any' where nothing grows."""
    return "any" if tokens >= MOST_CONTEXT else f"{tokens:,}" if tokens else "none"


def batch_words(sequences: int) -> str:
    """'12', 'none', or 'any'."""
    return "any" if sequences >= MOST_BATCH else f"{sequences:,}" if sequences else "none"


def rate_words(answer: Fit) -> str:
    """'62.1', or '-' without a rate."""
    rate = answer.tokens_per_s
    return "-" if rate is None or not answer.fits else f"{rate:,.1f}" if rate < 1000 else f"{rate:,.0f}"
