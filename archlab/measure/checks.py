"""Whether the modules compute right here: the same as on a CPU, the same token by token as at once, and the fast
decoder the same as the reference, recorded as it is timed. Tiny models, in fp32 and in the format that is timed: a
timing of wrong arithmetic is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from archlab.measure.devices import DTYPES, device_name
from archlab.measure.provenance import config_hash, provenance
from archlab.measure.studies import EVERY_BLOCK, FAMILIES, QUICK, TINY
from archlab.nn.build import build
from archlab.nn.cache import Cache
from archlab.nn.decoder import Decoder
from archlab.nn.fast.replay import Replay
from archlab.presets import load
from archlab.spec import ModelSpec

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
"""Largest difference of a logit, as a share of the largest logit. fp32 without TF32; the others round at every step."""
TOKENS = 40
PROMPT = 12
"""Tokens of the cached run's prefill; the windows of the tiny models (16, 32) are crossed by the steps after it."""

NEAR = 0.02
"""In a narrow format the fast decoder may be as far from exact logits as twice the reference is, and always so far."""


@dataclass(frozen=True)
class Pair:
    """Logits that were found, and those they should be; `allowed`: how far apart, where the format does not say."""

    found: torch.Tensor
    wanted: torch.Tensor
    allowed: float | None = None


Compare = Callable[[ModelSpec, torch.device, str], Pair]


@dataclass(frozen=True)
class Check:
    """A comparison of logits on one tiny model."""

    name: str
    spec: ModelSpec
    dtype: str
    compare: Compare

    def run(self, device: torch.device) -> dict[str, Any]:
        """The record: differences against the tolerance; status ok or failed."""
        with torch.inference_mode():
            pair = self.compare(self.spec, device, self.dtype)
        scale, worst = pair.wanted.abs().max().item(), distance(pair.found, pair.wanted)
        allowed = TOLERANCE[self.dtype] * scale if pair.allowed is None else pair.allowed
        right = worst <= allowed  # False for NaN
        return {
            "check": self.name, "model": self.spec.name, "config_hash": config_hash(self.spec), "dtype": self.dtype,
            "device": device_name(device), "largest_difference": worst if worst == worst else None, "allowed": allowed,
            "largest_logit": scale, "status": "ok" if right else "failed",
            "reason": "" if right else f"logits differ by {worst:.3g}, and {allowed:.3g} is allowed",
            "provenance": provenance(device),
        }  # fmt: skip


def checks_for(device: torch.device, dtype: str) -> Iterator[Check]:
    """The checks that say something on a device, those of the models that are timed first: a CPU is not compared with
    itself.
    """
    both = dict.fromkeys(("fp32", dtype))
    for name, keys in FAMILIES.items():
        for kind in both:
            yield Check("fast equals reference", load(name, keys), kind, fast_and_reference)
    tiny = [next(iter(study.points()))[1] for study in QUICK]
    tiny += [load(name, {**TINY, **keys}) for name, keys in EVERY_BLOCK.items()]
    for spec in tiny:
        yield Check("cached decode equals full forward", spec, "fp32", cached_and_full)
        if device.type != "cpu":
            for kind in both:
                yield Check("device equals CPU in fp32", spec, kind, here_and_cpu)


def fast_and_reference(spec: ModelSpec, device: torch.device, dtype: str) -> Pair:
    """Logits of the fast decoder and of the reference's prefill and steps with the same weights.

    In a narrow format both are held to the reference in fp32: where a model amplifies what rounding does (sparsity,
    experts, scores without a scale) the two need not be near each other.
    """
    reference = build(spec, device=device, dtype=DTYPES[dtype])
    fast = build(spec, device=device, dtype=DTYPES[dtype], fast=True, seed=1)
    fast.load_state_dict(reference.state_dict())
    ids = token_ids(spec).to(device)
    found, own = _in_steps(fast, ids, recorded=True), _in_steps(reference, ids)
    if dtype == "fp32":
        return Pair(found, own)
    exact = build(spec, device=device, dtype=torch.float32)
    exact.load_state_dict(reference.state_dict())
    wanted = _in_steps(exact, ids)
    return Pair(found, wanted, max(2 * distance(own, wanted), NEAR * wanted.abs().max().item()))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference of two tensors, NaN if either has one."""
    return (a.float().cpu() - b.float().cpu()).abs().max().item()


def _in_steps(model: Decoder, ids: torch.Tensor, recorded: bool = False) -> torch.Tensor:
    """Logits of a prefill, then of single steps; the prefill and the last step from recordings, if `recorded`."""
    cache = model.init_cache(1, TOKENS)
    made = []
    for piece in ids.split([PROMPT] + [1] * (TOKENS - PROMPT), 1):
        whole = cache.position + piece.shape[1]
        run = _replayed if recorded and whole in (PROMPT, TOKENS) else Decoder.__call__
        made.append(run(model, piece, cache))
    return torch.cat(made, 1)


def _replayed(model: Decoder, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
    """The pass from a recording of it. Recording runs it too, which leaves a recurrence further on: it is set back."""
    start, kept = cache.position, {name: state.buffer.clone() for name, state in cache.states.items()}
    replay = Replay(model, {"ids": ids}, cache)
    for name, state in cache.states.items():
        state.buffer.copy_(kept[name])
    logits = replay().clone()
    cache.position = start + ids.shape[1]
    return logits


def cached_and_full(spec: ModelSpec, device: torch.device, dtype: str) -> Pair:
    """Logits of a prefill and then single steps, and of one forward pass without a cache."""
    model = build(spec, device=device, dtype=DTYPES[dtype])
    ids = token_ids(spec).to(device)
    return Pair(_in_steps(model, ids), model(ids))


def here_and_cpu(spec: ModelSpec, device: torch.device, dtype: str) -> Pair:
    """Logits on the device in the format, and of the same weights on the CPU in fp32."""
    reference = build(spec, device="cpu", dtype=torch.float32)
    model = build(spec, device=device, dtype=DTYPES[dtype])
    model.load_state_dict(reference.state_dict())
    ids = token_ids(spec)
    return Pair(model(ids.to(device)), reference(ids))


def token_ids(spec: ModelSpec) -> torch.Tensor:
    """1 x TOKENS, always the same."""
    return torch.randint(spec.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(0))
