"""Swept value keys of a command line, folded into the grid that each job evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archlab.errors import SpecError, nearest
from archlab.sweep.argv_words import GROUPS, plain
from archlab.sweep.axes import HARDWARE_KEYS, WORKLOAD_KEYS, axis_values
from archlab.sweep.study import hydra_text


def fold(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """(settings, axes): swept value keys become `grid`; a single model key need not stand in the file."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    axes: dict[str, Any] = {}
    kept: dict[str, str] = {}
    for key, word in given.items():
        try:
            parsed = parser.parse_override(word)
        except HydraException as problem:
            raise SpecError(f"{word!r} is not key=value as Hydra reads it: {_brief(problem)}") from None
        if key == "grid":
            values = plain(parsed.value()) if isinstance(parsed.value(), dict) else {}
            axes = {k: axis_values(k, v) for k, v in values.items()} | axes
        elif "." in key and not key.startswith("hydra") and parsed.is_sweep_override():
            axes[key] = _axis(key, word, parsed)
        else:
            kept[key] = f"++{key}={word.partition('=')[2]}" if key.partition(".")[0] in GROUPS and "." in key else word
    for key in [k for k in kept if k in axes]:  # a single value given for an axis of the study
        axes.pop(key)
    return kept | {"grid": f"++grid={hydra_text(axes)}"}, axes


def _brief(problem: Exception) -> str:
    return str(problem).splitlines()[0].partition(" expecting ")[0]


def _axis(key: str, word: str, parsed: Any) -> list[Any]:
    """The values of a swept key. Raises SpecError for a key that cannot be an axis, or values that are not a list."""
    from hydra.errors import HydraException

    known = (*WORKLOAD_KEYS, *HARDWARE_KEYS)
    if not key.startswith("model.") and key not in known:
        raise SpecError(f"{key} cannot be an axis{nearest(key, known)}; model keys and {', '.join(WORKLOAD_KEYS)} can")
    try:
        return axis_values(key, [plain(v) for v in parsed.sweep_iterator()])
    except HydraException:
        raise SpecError(f"{word!r} has no list of values; write them out, or as range(1,5)") from None
