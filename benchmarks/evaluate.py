"""How fast the formulas run: grids and linked columns against numpy's own passes and one model at a time, in one run.

    OMP_NUM_THREADS=1 python benchmarks/evaluate.py [rows]

Ratios within a run hold on any machine; the seconds beside them are of this one. A pass is one numpy addition of two
arrays into a third. Grid blocks are a million points each of a larger grid, computed into the same memory.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

import archlab
from archlab.analyzers.memory import setting
from archlab.columns.mesh import CACHED, SLAB
from archlab.sweep.evaluate import Survey, survey
from archlab.sweep.measures import Asked, measures

BASE = archlab.load("gemma-2-9b")
WORK = archlab.Workload(new=8192, logits="last")
AT = setting("h200-sxm", "bf16", "ideal")
BLOCKS = 20
GRID = {
    "workload.context": np.arange(1, 100 * BLOCKS + 1) * 128,
    "attention.n_kv_heads": [1, 2, 4, 8, 16],
    "local.window": np.arange(256, 256 + 40 * 64, 64),
    "mlp.d_ff": np.arange(4096, 4096 + 50 * 128, 128),
}
WANTED = {
    "shapes, FLOPs, cache, bounds": Asked(AT),
    "and memory": Asked(AT, memory=True),
    "and max_context": Asked(AT, memory=True, limits="context"),
    "and max_batch": Asked(AT, memory=True, limits=True),
}


def best(action: Callable[[], object], times: int = 5) -> float:
    """The least seconds of a few runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def linked(n: int) -> dict[str, np.ndarray]:
    """Seven random columns that keep the model's rules."""
    generator = np.random.default_rng(0)
    kv = generator.choice([1, 2, 4, 8], n)
    return {
        "attention.n_kv_heads": kv,
        "attention.n_heads": kv * generator.choice([1, 2, 4], n),
        "attention.head_dim": generator.choice([64, 128, 256], n),
        "mlp.d_ff": generator.integers(1000, 30_000, n),
        "d_model": generator.integers(512, 6000, n),
        "local.window": generator.integers(128, 8192, n),
        "workload.context": generator.integers(128, 200_000, n),
    }


def one_pass(points: int) -> float:
    """Seconds a point of numpy's addition."""
    a, b, out = np.ones(points), np.ones(points), np.empty(points)
    times = 2_000_000 // points

    def action() -> None:
        for _ in range(times):
            np.add(a, b, out)

    return best(action, 20) / times / points


def lines(space: Survey) -> int:
    """Passes of the program; of a search those of one look."""
    return sum(written.program.passes for written in space.written.values() if written.program is not None)


def seconds_of(space: Survey, parts: Iterator[tuple[slice, ...]]) -> tuple[float, float, float]:
    """(the first part, which the formulas are written down for; the least and the median of the others)."""
    space.reuse = True
    found = [best(lambda part=part: space.points(part), 1) for part in parts]
    return found[0], min(found[1:]), float(np.median(found[1:]))


def report(name: str, space: Survey, points: int, parts: Iterator[tuple[slice, ...]], floor: float) -> None:
    """A line of the table."""
    first, least, median = seconds_of(space, parts)
    speed, usual, passes = points / least / 1e6, points / median / 1e6, least / points / floor
    print(f"{name:42} {speed:8.2f} {usual:8.2f} {passes:9.1f} {lines(space):7} {first - least:9.3f}")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    cached, slab = one_pass(CACHED), one_pass(SLAB)
    print(f"one pass: {cached * 1e9:.2f} ns a point on {CACHED:,}, {slab * 1e9:.2f} on {SLAB:,}")
    print(f"{'million points a second':42} {'best':>8} {'median':>8} {'as passes':>9} {'lines':>7} {'written s':>9}")
    columns = linked(rows)
    for name, asked in WANTED.items():
        grid = survey(BASE, WORK, asked, GRID)
        report(f"grid, {name}", grid, 10**6, grid.parts(10**6), slab)
        free = survey(BASE, WORK, asked, columns=columns)
        report(f"linked, {name}", free, rows, iter([(slice(0, rows),)] * 6), cached)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    for name, asked in (*WANTED.items(),)[:2]:
        alone = best(lambda asked=asked: measures(BASE, WORK, asked), 30)
        print(f"one model, {name:31} {alone * 1e3:8.2f} ms")
    bare = best(lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    start = "from archlab.cli.main import main; main(['describe', 'gemma-3-27b-text'])"
    cold = best(lambda: subprocess.run([sys.executable, "-c", start], check=True, stdout=subprocess.DEVNULL))
    print(f"archlab describe, cold {cold:28.3f} s   {cold / bare:.1f} x a bare interpreter")


if __name__ == "__main__":
    main()
