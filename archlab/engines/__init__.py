"""How engines lay the cache out, and what they take besides. A new one is a file, registered here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archlab.engines.base import Engine
from archlab.engines.hf import HF
from archlab.engines.ideal import Ideal
from archlab.engines.llama_cpp import LlamaCpp
from archlab.engines.vllm import VLLM
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.spec import fields_of

ENGINES: Mapping[str, type[Engine]] = {engine.name: engine for engine in (Ideal, HF, VLLM, LlamaCpp)}
"""Name -> engine, in the order in which they are listed."""


def load_engine(name: str | Engine, options: Mapping[str, Any] | None = None) -> Engine:
    """An engine with its options; those beside an Engine are changed in it.

    Raises ArchlabError for a name or an option that it does not have.
    """
    if not isinstance(name, str | Engine):
        raise SpecError(f"engine {name!r} must be a name, one of {', '.join(ENGINES)}, or an Engine")
    if isinstance(name, str) and name not in ENGINES:
        raise UnknownNameError(f"unknown engine {name!r}{nearest(name, ENGINES)} (known: {', '.join(ENGINES)})")
    engine = ENGINES[name]() if isinstance(name, str) else name
    known = fields_of(type(engine))
    for option in options or {}:
        if option not in known:
            raise SpecError(
                f"unknown option {option} of engine {engine.name}{nearest(option, known)} (known: {', '.join(known)})"
            )
    return replace(engine, **options) if options else engine
