"""Design points a second of archlab and of its peers, and how far what they compute is off, in one run on one core.

    OMP_NUM_THREADS=1 python benchmarks/peers/run.py            # all that are installed
    OMP_NUM_THREADS=1 python benchmarks/peers/run.py hf-mem     # those that are named

The points are gemma-2-9b at a prompt of 8,192 tokens, and eight that differ in one size. Imports are not timed, and a
peer is given the config.json; what it makes of it is. Seconds are those that the process had of the processor, so that
what else runs on the machine lengthens them little. A peer that is not installed, or fails, is named with the reason.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import counters
import formulas
import numpy as np
from peer import VALUES, Evaluate, Peer

import archlab

MODEL, CONTEXT, DEVICE = "gemma-2-9b", 8192, "h100-sxm"
KEYS = ("attention.n_kv_heads", "local.window", "mlp.d_ff", "workload.context")
LETTERS = "KWFC"
BASE = (8, 4096, 14336, CONTEXT)
OTHERS = ((2, 4), (1024, 2048), (7168, 10752), (2048, 4096))
"""Values of each key beside the base's; d_ff in multiples of d_model, as llm-analysis wants it."""
GRID = {
    "attention.n_kv_heads": [1, 2, 4, 8, 16],
    "local.window": np.arange(1, 41) * 128,
    "mlp.d_ff": np.arange(1, 51) * 512,
    "workload.context": np.arange(1, 101) * 1024,
}
COLUMNS = {
    "params": "params",
    "flops": "flops_prefill",
    "flops_decode": "flops_decode",
    "kv_cache": "kv_cache_bytes",
    "memory": "memory_bytes",
    "prefill_s": "prefill_bound_s",
    "decode_s": "decode_bound_s",
}
"""Names of `one_by_one`'s values in what `archlab.evaluate` gives."""
SECONDS = 5.0
"""Of evaluations of a peer, and each point at least once."""
CLOCK = 1e-3
"""Processor seconds of an action, or of its repetitions."""
NOT_RUN = {
    "LLM-Viewer": "not on PyPI",
    "aiconfigurator": "its list of architectures has no Gemma 1, 2 or 3; 82 MB of measured tables",
    "accelerate estimate-memory": "reads the model's files from the Hub",
}

Point = tuple[int, ...]


def points() -> list[Point]:
    """The base first, then those that differ from it in one size."""
    changed = [(*BASE[:i], value, *BASE[i + 1 :]) for i, values in enumerate(OTHERS) for value in values]
    return [BASE, *changed]


def spec_of(point: Point) -> Any:
    """The model of a point."""
    return archlab.load(MODEL, dict(zip(KEYS[:3], point[:3], strict=True)))


@dataclass
class Timed:
    """Seconds a point: the least, and the median."""

    name: str
    computes: str
    least: float
    median: float


@dataclass
class Judged:
    """A peer's values at each point."""

    peer: Peer
    found: dict[Point, dict[str, float]]

    def errors(self) -> dict[str, float]:
        """How far each value is off at the base, as a share of archlab's; `dense`: FLOPs against all pairs."""
        wanted = reference(self.peer.logits)
        found = self.found[BASE]
        if "flops" in found:
            found = {**found, "dense": found["flops"]}
        return {name: value / wanted[name] - 1 for name, value in found.items()}

    def blind(self, wanted: dict[Point, dict[str, float]]) -> dict[str, str]:
        """Letters of the sizes that change archlab's value and leave the peer's as it is."""
        return {
            name: "".join(sorted(moves(wanted, name) - moves(self.found, name), key=LETTERS.index))
            for name in self.found[BASE]
        }


def moves(found: dict[Point, dict[str, float]], name: str) -> set[str]:
    """Letters of the sizes that change a value."""
    return {
        letter
        for point, values in found.items()
        for letter, size, base in zip(LETTERS, point, BASE, strict=True)
        if size != base and values[name] != found[BASE][name]
    }


def reference(logits: str) -> dict[str, float]:
    """archlab's values at the base: exact counts, its estimate of memory, and bounds at the device's rates."""
    spec, work = spec_of(BASE), archlab.Workload(new=CONTEXT, context=CONTEXT, logits=logits)
    count = archlab.flops(spec, work)
    return {
        "params": archlab.params(spec).total,
        "flops": count.total,
        "dense": count.dense,
        "kv_cache": archlab.kv_cache(spec, CONTEXT).total,
        "memory": archlab.memory(spec, work, DEVICE).needed,
        "prefill_s": archlab.latency(spec, work, DEVICE).bound_seconds,
        "decode_s": archlab.latency(spec, work.decode(), DEVICE).bound_seconds,
    }


def one_by_one(point: Point) -> dict[str, float]:
    """archlab's analyzers on one model, made from its YAML."""
    spec, work = spec_of(point), archlab.Workload(new=point[3], context=point[3], logits="last")
    decode = work.decode()
    return {
        "params": archlab.params(spec).total,
        "flops": archlab.flops(spec, work).total,
        "flops_decode": archlab.flops(spec, decode).total,
        "kv_cache": archlab.kv_cache(spec, point[3]).total,
        "memory": archlab.memory(spec, work, DEVICE).needed,
        "prefill_s": archlab.latency(spec, work, DEVICE).bound_seconds,
        "decode_s": archlab.latency(spec, decode, DEVICE).bound_seconds,
    }


def linked(rows: int) -> dict[str, np.ndarray]:
    """Random points of the grid's ranges: a row each."""
    draw = np.random.default_rng(0)
    return {key: draw.choice(values, rows) for key, values in GRID.items()}


def seconds_of(actions: Iterable[Callable[[], object]], least: int) -> list[float]:
    """Processor seconds of each of a row of actions, until `SECONDS` have gone and `least` are done."""
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    for action in actions:
        found.append(processor_seconds(action))
        if len(found) >= least and time.perf_counter() > end:
            break
    return found


def processor_seconds(action: Callable[[], object]) -> float:
    """Of this process, which others on the machine do not lengthen; an action too short for the clock is repeated."""
    start = time.process_time()
    action()
    once = time.process_time() - start
    times = int(CLOCK / max(once, 1e-9))
    if times < 2:
        return once
    start = time.process_time()
    for _ in range(times):
        action()
    return (time.process_time() - start) / times


def timed(name: str, computes: str, seconds: list[float], size: int = 1) -> Timed:
    """`size` points an action."""
    return Timed(name, computes, min(seconds) / size, statistics.median(seconds) / size)


def time_archlab() -> list[Timed]:
    """One model at a time, then many in one call of `evaluate`, formulas written down anew in each call."""
    spec, work = archlab.load(MODEL), archlab.Workload(new=CONTEXT, context=CONTEXT, logits="last")
    everything = "parameters, FLOPs, cache, memory, prefill and decode bounds"
    few = dict(zip(KEYS, np.array(points()).T, strict=True))
    many = linked(10**6)
    cases = {
        f"evaluate, {len(points())} points": (dict(columns=few), len(points())),
        "evaluate, grid of 1,000,000": (dict(grid=GRID), 10**6),
        "evaluate, 1,000,000 linked points": (dict(columns=many), 10**6),
    }
    alone = seconds_of((lambda p=p: one_by_one(p) for p in itertools.cycle(points())), len(points()))
    check(archlab.evaluate(spec, work, DEVICE, memory=True, columns=few))
    rows = [timed("archlab one model at a time", everything, alone)]
    for name, (given, size) in cases.items():
        whole = itertools.repeat(lambda given=given: archlab.evaluate(spec, work, DEVICE, memory=True, **given))
        rows.append(timed(f"archlab {name}", everything, seconds_of(whole, 3), size))
    return rows


def check(found: Any) -> None:
    """Both ways of archlab give the same at the points. Raises SystemExit where they do not."""
    for i, point in enumerate(points()):
        for name, value in one_by_one(point).items():
            if not np.isclose(found[COLUMNS[name]][i], value, rtol=1e-12, atol=0):
                raise SystemExit(f"{name} at {point}: {found[COLUMNS[name]][i]} in columns, {value} alone")


def judge(peer: Peer) -> tuple[Timed, Judged]:
    """Times a peer on the points and keeps what it found. Raises what the peer raises."""
    evaluate: Evaluate = peer.prepare()
    given = {point: archlab.hf.export_config(spec_of(point)) for point in points()}
    found: dict[Point, dict[str, float]] = {}

    def action(point: Point) -> None:
        found[point] = evaluate(given[point], point[3])

    with contextlib.redirect_stdout(io.StringIO()):
        action(BASE)
        seconds = seconds_of((lambda p=p: action(p) for p in itertools.cycle(points())), len(points()))
    return timed(f"{peer.name} {version_of(peer.name)}", peer.computes, seconds), Judged(peer, found)


def version_of(name: str) -> str:
    """Of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def show_speed(rows: list[Timed]) -> None:
    """The table of rates; ratios are to the grid."""
    grid = next(row.least for row in rows if "grid" in row.name)
    print(f"\n{'points a second, one core':44} {'best':>12} {'median':>12} {'grid is':>14}  what it computes")
    for row in rows:
        ratio = f"{shown(row.least / grid)} x"
        print(f"{row.name:44} {shown(1 / row.least):>12} {shown(1 / row.median):>12} {ratio:>14}  {row.computes}")


def shown(rate: float) -> str:
    """Three digits of a slow one."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def show_errors(judged: list[Judged]) -> None:
    """How far each value of each peer is off at the base, and which sizes do not move it though they should."""
    names = ("params", "flops", "dense", *VALUES[2:])
    titles = ("params", "FLOPs", "as dense", "cache", "memory", "prefill", "decode")
    wanted = {point: one_by_one(point) for point in points()}
    print(f"\n{MODEL}, prompt of {CONTEXT:,}, bf16, {DEVICE}: difference from archlab's value, %")
    print(f"{'':28}" + "".join(f"{title:>13}" for title in titles))
    for row in judged:
        errors, blind = row.errors(), row.blind(wanted)
        cells = [f"{percent(errors[name])} {blind.get(name, '')}" if name in errors else "- " for name in names]
        print(f"{row.peer.name + ', logits ' + row.peer.logits:28}" + "".join(f"{cell:>13}" for cell in cells))
    print(
        "Letters: does not change with K n_kv_heads, W window, F d_ff, C context, though archlab's value does.\n"
        "FLOPs: of the pairs that causal mask and window keep; as dense: of all pairs, which a tracer sees.\n"
        "params, FLOPs and cache of archlab are exact; its memory is an estimate, its times are bounds of its own data."
    )


def percent(share: float) -> str:
    """0 only where nothing differs."""
    return "0" if share == 0 else f"{share * 100:+.2g}" if abs(share) < 0.001 else f"{share * 100:+.1f}"


def main() -> None:
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    chosen = [peer for peer in (*formulas.PEERS, *counters.PEERS) if not sys.argv[1:] or peer.name in sys.argv[1:]]
    versions = ", ".join(f"{name} {version_of(name)}" for name in ("numpy", "torch", "transformers"))
    print(f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {versions}")
    speeds, judged = time_archlab(), []
    for peer in chosen:
        try:
            speed, values = judge(peer)
        except Exception as problem:  # a peer may fail in any way, and the others go on
            print(f"skipped {peer.name}: {type(problem).__name__}: {str(problem).splitlines()[0]}")
            continue
        speeds.append(speed)
        judged.append(values)
    for name, reason in NOT_RUN.items():
        print(f"skipped {name}: {reason}")
    show_speed(speeds)
    show_errors(judged)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def processor() -> str:
    """Its name, where Linux tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
