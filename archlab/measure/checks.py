"""Whether the module computes the same here as on a CPU, and the same token by token as at once: tiny models, in fp32
and in the format that is timed. A timing of wrong arithmetic is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from archlab.measure.devices import DTYPES, device_name
from archlab.measure.provenance import config_hash, provenance
from archlab.measure.studies import EVERY_BLOCK, QUICK, TINY
from archlab.nn.build import build
from archlab.presets import load
from archlab.spec import ModelSpec

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}
"""Largest difference of a logit, as a share of the largest logit. fp32 without TF32; the others round at every step."""
TOKENS = 40
PROMPT = 12
"""Tokens of the cached run's prefill; the windows of the tiny models (16, 32) are crossed by the steps after it."""

Compare = Callable[[ModelSpec, torch.device, str], tuple[torch.Tensor, torch.Tensor]]


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
            found, wanted = (t.float().cpu() for t in self.compare(self.spec, device, self.dtype))
        scale, worst = wanted.abs().max().item(), (found - wanted).abs().max().item()
        allowed = TOLERANCE[self.dtype] * scale
        right = worst <= allowed  # False for NaN
        return {
            "check": self.name, "model": self.spec.name, "config_hash": config_hash(self.spec), "dtype": self.dtype,
            "device": device_name(device), "largest_difference": worst if worst == worst else None, "allowed": allowed,
            "largest_logit": scale, "status": "ok" if right else "failed",
            "reason": "" if right else f"logits differ by {worst:.3g}, and {allowed:.3g} is allowed",
            "provenance": provenance(device),
        }  # fmt: skip


def checks_for(device: torch.device, dtype: str) -> Iterator[Check]:
    """The checks that say something on a device: a CPU is not compared with itself."""
    tiny = [next(iter(study.points()))[1] for study in QUICK]
    tiny += [load(name, {**TINY, **keys}) for name, keys in EVERY_BLOCK.items()]
    for spec in tiny:
        yield Check("cached decode equals full forward", spec, "fp32", cached_and_full)
        if device.type != "cpu":
            for kind in dict.fromkeys(("fp32", dtype)):
                yield Check("device equals CPU in fp32", spec, kind, here_and_cpu)


def cached_and_full(spec: ModelSpec, device: torch.device, dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a prefill and then single steps, and of one forward pass without a cache."""
    model = build(spec, device=device, dtype=DTYPES[dtype])
    ids = token_ids(spec).to(device)
    cache = model.init_cache(1, TOKENS)
    pieces = [model(ids[:, :PROMPT], cache)] + [model(ids[:, i : i + 1], cache) for i in range(PROMPT, TOKENS)]
    return torch.cat(pieces, 1), model(ids)


def here_and_cpu(spec: ModelSpec, device: torch.device, dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits on the device in the format, and of the same weights on the CPU in fp32."""
    reference = build(spec, device="cpu", dtype=torch.float32)
    model = build(spec, device=device, dtype=DTYPES[dtype])
    model.load_state_dict(reference.state_dict())
    ids = token_ids(spec)
    return model(ids.to(device)), reference(ids)


def token_ids(spec: ModelSpec) -> torch.Tensor:
    """1 x TOKENS, always the same."""
    return torch.randint(spec.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(0))
