"""How fast the decoders run: archlab's beside transformers' on the same weights, shapes and device, in one run.

    python benchmarks/latency.py                      # two small shapes, or 9B and 12B on a GPU
    python benchmarks/latency.py --compiled           # and transformers' own compiled path (minutes of compiling)
    python benchmarks/latency.py gemma-3-1b n_layers=8 --context 1024

Every contender gets the same random weights and has to give the same logits first. Then all take turns, a burst each,
so that what slows the machine slows them all. Ratios within a run hold; the times beside them are of this machine then.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

import archlab
from archlab.analyzers.latency import latency
from archlab.errors import ArchlabError
from archlab.measure.devices import DTYPES, device_name, find_device, find_dtype, release
from archlab.measure.rooflines import Rooflines, measure_rooflines
from archlab.measure.trial import fill_cache
from archlab.nn.fast.replay import Replay
from archlab.presets import load
from archlab.spec import ModelSpec
from archlab.units import show_bytes, show_seconds
from archlab.workload import Workload

BURST = 8
"""Steps of one turn; transformers' cache grows by so many before it is made anew."""
SECONDS = 6.0
"""Of turns for all contenders of a phase, and at least three rounds."""
ALLOWED = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 2e-2}
"""Difference of logits, as a share of the largest; bf16 rounds at every operation, and in another order."""

DEEP = {"d_model": 64, "n_layers": 32, "vocab_size": 4096, "attention.n_heads": 4, "attention.n_kv_heads": 1,
        "attention.head_dim": 32, "mlp.d_ff": 256}  # fmt: skip
WIDE = {"d_model": 2048, "n_layers": 6, "vocab_size": 32768, "attention.n_heads": 8, "attention.n_kv_heads": 4,
        "mlp.d_ff": 8192}  # fmt: skip
SHAPES = {
    "cpu": (("tiny and deep", "gemma-3-270m", DEEP, 256), ("wide", "gemma-3-270m", WIDE, 512)),
    "cuda": (("9B", "gemma-2-9b", {}, 2048), ("12B", "gemma-3-12b-text", {}, 2048)),
}
"""Where a step is bound by its overhead, and where by its bandwidth: (title, preset, changes, context)."""

Step = Callable[[], Any]


@dataclass
class Contender:
    """`begin` makes ready, untimed, for `steps` runs of `step`."""

    name: str
    begin: Step
    step: Step
    steps: int


def ours(model: Any, work: Workload, name: str, replayed: bool) -> Contender:
    """A pass at a fixed place, recorded or run by Python."""
    ids = tokens_of(model.spec, work, next(model.parameters()).device)[:, -work.new :].contiguous()
    cache = model.init_cache(work.batch, work.context)
    fill_cache(cache, 0)

    def again() -> Any:
        cache.position = work.context - work.new
        return model(ids, cache, work.logits)

    steps = BURST if work.new == 1 else 1
    if not replayed:
        return Contender(name, lambda: None, again, steps)
    cache.position = work.context - work.new
    replay = Replay(model, {"ids": ids}, cache, work.logits)
    return Contender(f"{name}, {replay.how}", lambda: None, replay, steps)


def theirs(model: Any, spec: ModelSpec, work: Workload, attention: str) -> Contender:
    """transformers, not compiled: the whole prompt without a cache, or steps from a cache that is filled before."""
    device = next(model.parameters()).device
    ids = tokens_of(spec, work, device)
    name = f"transformers, {attention} attention"
    held: dict[str, Any] = {}
    if work.new == work.context:
        return Contender(name, lambda: model.set_attn_implementation(attention),
                         lambda: model(ids, use_cache=False, logits_to_keep=1), 1)  # fmt: skip

    def begin() -> None:
        model.set_attn_implementation(attention)
        held["cache"] = transformers.DynamicCache(config=model.config)
        model(ids[:, :-BURST], past_key_values=held["cache"], use_cache=True, logits_to_keep=1)

    return Contender(name, begin, lambda: model(ids[:, -1:], past_key_values=held["cache"], use_cache=True), BURST)


def compiled(model: Any, spec: ModelSpec, work: Workload) -> float:
    """Seconds of a step of generate() with a static cache, compiled as it compiles itself: the slope of two lengths."""
    ids = tokens_of(spec, work, next(model.parameters()).device)
    config = transformers.CompileConfig()
    config._compile_all_devices = True
    few, many = 4, 4 + 4 * BURST
    prompt = ids[:, : work.context - many]

    def generate(count: int) -> float:
        start = time.perf_counter()
        model.generate(prompt, max_new_tokens=count, min_new_tokens=count, do_sample=False,
                       cache_implementation="static", compile_config=config)  # fmt: skip
        synchronize(prompt.device)
        return time.perf_counter() - start

    for count in (few, many):
        generate(count)
    return statistics.median((generate(many) - generate(few)) / (many - few) for _ in range(5))


def tokens_of(spec: ModelSpec, work: Workload, device: torch.device) -> torch.Tensor:
    """B S, always the same."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(spec.vocab_size, (work.batch, work.context), generator=draw).to(device)


def take_turns(contenders: Sequence[Contender], device: torch.device) -> dict[str, list[float]]:
    """Seconds of a step, one value a burst; the first round warms up."""
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        contender.begin()
        contender.step()
    synchronize(device)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or min(map(len, found.values())) < 3:
        for contender in contenders:
            contender.begin()
            synchronize(device)
            start = time.perf_counter()
            for _ in range(contender.steps):
                contender.step()
            synchronize(device)
            found[contender.name].append((time.perf_counter() - start) / contender.steps)
    return found


def synchronize(device: torch.device) -> None:
    """Waits for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def their_model(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> Any:
    """transformers' class of the spec's config.json, with random weights."""
    config = transformers.AutoConfig.for_model(**archlab.hf.export_config(spec))
    with device:
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def compare(title: str, spec: ModelSpec, context: int, device: torch.device, dtype: str, roofs: Rooflines,
            with_compiled: bool) -> bool:  # fmt: skip
    """Builds, checks and times the contenders of one shape; prints; False where logits differ."""
    print(f"\n{title}: {spec.name}, {archlab.params(spec).total / 1e6:,.0f} M parameters in {dtype}, "
          f"{show_bytes(archlab.params(spec).total * (4 if dtype == 'fp32' else 2))}, context {context:,}")  # fmt: skip
    model = their_model(spec, device, DTYPES[dtype])
    fast = archlab.build(spec, device=device, dtype=DTYPES[dtype], fast=True)
    archlab.hf.load_weights(fast, model.state_dict())
    prefill = Workload(1, context, context, logits="last")
    if not same_logits(model, fast, prefill, dtype):
        return False
    for work in (prefill.decode(), prefill):
        contenders = [ours(fast, work, "archlab fast", True), ours(fast, work, "archlab fast, no recording", False)]
        contenders += [theirs(model, spec, work, attention) for attention in ("sdpa", "eager")]
        found = {name: statistics.median(times) for name, times in take_turns(contenders, device).items()}
        if with_compiled and work.new == 1:
            found["transformers generate(), static cache, compiled"] = compiled(model, spec, work)
        show(work, found, latency(spec, work, roofs.hardware(), dtype))
    del model, fast
    release(device)
    return True


def same_logits(model: Any, fast: Any, work: Workload, dtype: str) -> bool:
    """Whether both give the same last row of logits; says by how much they differ."""
    ids = tokens_of(fast.spec, work, next(model.parameters()).device)
    model.set_attn_implementation("eager")
    wanted, found = model(ids, logits_to_keep=1).logits.float(), fast(ids, logits="last").float()
    share = ((wanted - found).abs().max() / wanted.abs().max()).item()
    right = share <= ALLOWED[dtype]
    print(f"  largest difference of a logit, as a share of the largest: {share:.1e}" + " (too large)" * (not right))
    return right


def show(work: Workload, found: dict[str, float], limit: Any) -> None:
    """Times as ratios of the first contender's, and the share of the rooflines that each reaches."""
    phase = "decode step" if work.new == 1 else f"prefill of {work.new:,}"
    bound = getattr(limit, "bound_seconds", limit.seconds)
    first = next(iter(found.values()))
    print(f"  {phase}, bound at this run's rooflines {show_seconds(bound)} ({limit.bound})")
    for name, seconds in found.items():
        ratios = f"{seconds / first:6.2f} x   {bound / seconds:6.1%} of the bound"
        print(f"    {name:48s} {show_seconds(seconds):>10s}   {ratios}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a preset; by default the shapes that suit the device")
    parser.add_argument("changes", nargs="*", metavar="key=value")
    parser.add_argument("--context", type=int)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--compiled", action="store_true", help="transformers' own compiled path too")
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except ArchlabError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """All shapes; 1 where logits differ."""
    from archlab.measure.__main__ import _overrides

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    device = find_device(options.device)
    dtype = find_dtype(options.dtype, device)
    shapes = SHAPES[device.type]
    if options.model:
        shapes = ((options.model, options.model, _overrides(options.changes), options.context or 512),)
    with torch.inference_mode():
        roofs = measure_rooflines(device, dtype)
        rates = roofs.read_bytes_per_s / 1e9, roofs.copy_bytes_per_s / 1e9, roofs.matmul_flops_per_s / 1e12
        versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
        print(f"{device_name(device)}, {dtype}, {versions}")
        print("read {:,.1f} GB/s, copy {:,.1f} GB/s, matmul {:,.3g} TFLOP/s".format(*rates))
        done = [
            compare(title, load(name, keys), options.context or context, device, dtype, roofs, options.compiled)
            for title, name, keys, context in shapes
        ]
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main())
