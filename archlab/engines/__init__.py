"""How engines lay the cache out, and what they take besides. A new one is a file, registered here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from archlab.engines.base import Engine
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.fields import fields_of

CLASSES = {"ideal": "Ideal", "hf": "HF", "vllm": "VLLM", "llama_cpp": "LlamaCpp"}
"""Name, which is its file's too -> the class there, in the order in which they are listed."""


class _Engines(Mapping[str, type[Engine]]):
    """The engines by name; a file is read when its engine is asked for."""

    def __getitem__(self, name: str) -> type[Engine]:
        where = CLASSES[name]
        return getattr(import_module(f"archlab.engines.{name}"), where)

    def __iter__(self) -> Iterator[str]:
        return iter(CLASSES)

    def __len__(self) -> int:
        return len(CLASSES)


ENGINES: Mapping[str, type[Engine]] = _Engines()
"""Name -> engine."""


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
