"""How fast the formulas run: a mesh of a million points and linked columns against one model at a time, in one run.

    python benchmarks/evaluate.py

Ratios within a run hold on any machine; the seconds beside them are of this one.
"""

import subprocess
import sys
import time

import archlab
from archlab.analyzers.memory import setting
from archlab.sweep.evaluate import Asked, measures

BASE = archlab.load("gemma-2-9b")
WORK = archlab.Workload(new=8192, logits="last")
GRID = {
    "attention.n_kv_heads": [1, 2, 4, 8, 16],
    "local.window": list(range(256, 256 + 40 * 64, 64)),
    "workload.context": list(range(1024, 1024 * 101, 1024)),
    "mlp.d_ff": list(range(4096, 4096 + 50 * 128, 128)),
}


def best(action, times: int = 5) -> float:
    """The least seconds of a few runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    at = setting("h200-sxm", "bf16", "ideal")
    one = best(lambda: measures(BASE, WORK, Asked(at)), 50)
    whole = best(lambda: measures(BASE, WORK, Asked(at, memory=True)), 50)
    mesh = best(lambda: archlab.evaluate(BASE, WORK, at.device, grid=GRID))
    held = best(lambda: archlab.evaluate(BASE, WORK, at.device, grid=GRID, memory=True))
    n = 100_000
    columns = {"attention.n_kv_heads": [1, 2, 4, 8, 16] * (n // 5), "mlp.d_ff": list(range(1024, 1024 + n))}
    linked = best(lambda: archlab.evaluate(BASE, WORK, at.device, columns=columns), 3)
    print(f"one model, both phases, cache, both bounds   {one * 1e3:8.2f} ms")
    print(f"the same, and its memory                     {whole * 1e3:8.2f} ms")
    print(f"a mesh of 1,000,000 points                   {mesh:8.2f} s   {one * 1e6 / mesh:10,.0f} x one by one")
    print(f"the same, and their memory                   {held:8.2f} s   {whole * 1e6 / held:10,.0f} x one by one")
    print(f"{n:,} linked points                        {linked:8.2f} s   {one * n / linked:10,.0f} x one by one")
    bare = best(lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    start = "from archlab.cli.main import main; main(['describe', 'gemma-3-27b-text'])"
    cold = best(lambda: subprocess.run([sys.executable, "-c", start], check=True, stdout=subprocess.DEVNULL))
    print(f"archlab describe, cold                       {cold:8.3f} s   {cold / bare:10.1f} x a bare interpreter")


if __name__ == "__main__":
    main()
