"""Engines on the screen: what they are, which precisions they run, and their options."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from archlab.cli.screen import bold, dim
from archlab.engines import ENGINES
from archlab.engines.base import Engine
from archlab.fields import fields_of
from archlab.precision import load_precision, precision_names

FOOT = """\
Options go by these names: archlab.kv_cache(..., engine="vllm", block_size=32);
archlab fit MODEL --engine vllm --engine-option block_size=32."""


def facts(engine: type[Engine]) -> dict[str, Any]:
    """An engine as JSON."""
    return {
        "name": engine.name,
        "title": engine.title,
        "context": engine.context_is,
        "options": {
            name: {"default": f.default, "takes": f.metadata["type"].words, "doc": f.metadata["doc"]}
            for name, f in fields_of(engine).items()
        },
        "precisions": runs(engine),
    }


def runs(engine: type[Engine]) -> list[str]:
    """Precisions that it runs."""
    return [name for name in precision_names() if engine.name in load_precision(name).engines]


def listing() -> str:
    """All engines, their options a line each, long explanations folded."""
    return "\n\n".join(["\n".join(_screen(engine)) for engine in ENGINES.values()] + [dim(FOOT)])


def _screen(engine: type[Engine]) -> Iterator[str]:
    yield f"{bold(engine.name)}   {engine.title}"
    yield from _folded("context: ", engine.context_is, 9)
    yield from _folded("runs: ", ", ".join(runs(engine)), 6)
    options = fields_of(engine)
    name_width = max(len(name) for name in options)
    value_width = max(len(_shown(f.default)) for f in options.values())
    for name, f in options.items():
        start = f"  {name:{name_width}}  {_shown(f.default):{value_width}}  "
        yield from _folded(start, f.metadata["doc"], len(start))


def _folded(start: str, said: str, indent: int) -> list[str]:
    """A line that is folded under its start; one that would leave no room goes on 6 columns in."""
    indent = indent if indent < 44 else 6
    return textwrap.wrap(
        said, 80, initial_indent=start, subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False
    )


def _shown(value: Any) -> str:
    """As YAML writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
