"""What a large sweep costs end to end, by stage, as ratios within one run: formulas, fronts, rows, marginals, files.

    OMP_NUM_THREADS=1 python benchmarks/store.py [millions]

Parts of a million points of a grid of ten million (or as many as asked for) go through what a sweep does with them.
Seconds are processor seconds of this machine; a ratio is against the formulas alone, measured in the same run.
"""

import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import archlab.sweep.block as block
from archlab.sweep import app, gather
from archlab.sweep.survey import Survey

STAGES = {
    "formulas": (Survey, "points"),
    "fronts and sample": (block, "notable"),
    "rows": (block, "named_rows"),
    "marginals": (block, "marginal_rows"),
    "files": (block, "write_part"),
}
WORDS = [
    "model=gemma-2-9b", "model.attention.n_kv_heads=1,2,4,8,16", "model.local.window=range(256,2816,64)",
    "model.mlp.d_ff=range(4096,20096,32)", "measure=never",
]  # fmt: skip


def watched(spent: dict[str, float]) -> None:
    """Each stage adds its seconds."""

    def watch(holder: Any, name: str, stage: str) -> None:
        real: Callable[..., Any] = getattr(holder, name)

        def timed(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return real(*given, **named)
            finally:
                spent[stage] += time.process_time() - start

        setattr(holder, name, timed)

    for stage, (holder, name) in STAGES.items():
        watch(holder, name, stage)
    watch(gather, "_render", "the report")
    watch(app, "gather", "gathering, the report too")
    watch(app, "_jobs", "the jobs")


def line(stage: str, seconds: float, formulas: float, points: int) -> None:
    """A line of the table."""
    print(f"{stage:28} {seconds:9.2f} {seconds / formulas:9.2f} {points / seconds / 1e6:9.1f}")


def main() -> None:
    millions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    spent: dict[str, float] = defaultdict(float)
    watched(spent)
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORDS, f"workload.context=range(1024,{1024 * (10 * millions + 1)},1024)", f"out={folder}/run"]
        start, wall = time.process_time(), time.perf_counter()
        with redirect_stdout(StringIO()):
            outcome = app.run(words)
        whole, wall, first = time.process_time() - start, time.perf_counter() - wall, dict(spent)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        start, again = time.process_time(), app.run(words)
        resumed = time.process_time() - start
    points = outcome.computed if outcome else 0
    print(f"{points:,} points, {len(outcome.points) if outcome else 0:,} rows, {wall:.1f} s of the clock")
    print(f"{'processor seconds':28} {'s':>9} {'ratio':>9} {'M/s':>9}")
    for stage in (*STAGES, "the jobs", "gathering, the report too", "the report"):
        line(stage, first[stage], first["formulas"], points)
    line("all", whole, first["formulas"], points)
    line("all, stored before", resumed, first["formulas"], points)
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, on disk {size / 1e6:.1f} MB"
    )
    assert again is not None and again.fresh == 0


if __name__ == "__main__":
    main()
