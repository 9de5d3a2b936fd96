"""What a peer is here: a name on PyPI, what it computes, and a function of a config.json and a context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
"""A config.json of transformers, as archlab.hf.export_config writes it."""
Evaluate = Callable[[Config, int], dict[str, float]]
"""(config, context) -> some of `VALUES`, batch 1, bf16; everything that the peer does for one design point."""

VALUES = ("params", "flops", "kv_cache", "memory", "prefill_s", "decode_s")
"""Parameters, FLOPs of a prefill (2 a multiply-add), bytes of the cache, bytes that serving takes by the peer's own
account, and its seconds of a prefill and of a decode step on an H100 SXM at its full rates."""


@dataclass(frozen=True)
class Peer:
    """A tool to compare with.

    prepare  imports the tool; raises ImportError where it is not installed
    logits   of which positions its FLOPs count the head: last | all
    """

    name: str
    computes: str
    prepare: Callable[[], Evaluate]
    logits: str = "last"
