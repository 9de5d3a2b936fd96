"""How engines lay the cache out, and what they take besides. A new one is a file, registered here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archlab.engines.base import Engine
from archlab.engines.hf import HF
from archlab.engines.ideal import Ideal
from archlab.engines.llama_cpp import LlamaCpp
from archlab.engines.vllm import VLLM
from archlab.errors import UnknownNameError, nearest
from archlab.spec import check_fields

ENGINES: Mapping[str, type[Engine]] = {engine.name: engine for engine in (Ideal, HF, VLLM, LlamaCpp)}
"""Name -> engine, in the order in which they are listed."""


def load_engine(name: str | Engine, options: Mapping[str, Any] | None = None) -> Engine:
    """An engine with its options. Raises ArchlabError for a name or an option that it does not have."""
    if isinstance(name, Engine):
        return name
    if name not in ENGINES:
        raise UnknownNameError(f"unknown engine {name!r}{nearest(name, ENGINES)} (known: {', '.join(ENGINES)})")
    engine = ENGINES[name]
    check_fields(engine, f"engine {name}:", options or {})
    return engine(**(options or {}))
