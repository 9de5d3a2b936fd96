"""archlab tornado and archlab nearest: what moves a model's numbers, and which released model is like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archlab.cli.screen import table
from archlab.cli.search import show
from archlab.spec import ModelSpec
from archlab.sweep.nearest_model import Neighbour, nearest_model
from archlab.sweep.results import show_axis
from archlab.sweep.sensitivity import METRICS, tornado
from archlab.units import show_count
from archlab.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

TIMES = ("decode_bound_s", "prefill_bound_s")
WIDTH = 24


def sensitivity(
    spec: ModelSpec, work: Workload, hardware: str | None, precision: str, metrics: Sequence[str]
) -> pd.DataFrame:
    """A row a metric and key. Without metrics: parameters, cache and FLOPs, with a device its bounds too."""
    asked = tuple(metrics) or (*METRICS, *(TIMES if hardware else ()))
    return tornado(spec, work, hardware, precision, metrics=asked)


def bars(rows: pd.DataFrame, most: int = 8) -> str:
    """A table a metric: each key halved and doubled, the largest change first."""
    parts = []
    for metric, own in rows.groupby("metric", sort=False):
        known = own[own["size"] > 0].head(most)
        lines = [[r.key, _values(r), *_changes(r), _bar(r)] for r in known.itertuples()]
        base = show(str(metric), own["at_base"].iloc[0])
        parts.append(f"{metric}, {base}\n" + table(["key", "values", "below", "above", ""], lines, left=(0, 1, 4)))
    return "\n\n".join(parts)


def _values(row: Any) -> str:
    return " / ".join("-" if v is None or v != v else show_axis(_whole(v)) for v in (row.low, row.base, row.high))


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _changes(row: Any) -> list[str]:
    return ["-" if c != c else f"{c:+.1%}" for c in (row.change_low, row.change_high)]


def _bar(row: Any) -> str:
    """The larger change as a bar, an octave its full width."""
    size = 0.0 if row.size != row.size else min(float(row.size), 1.0)
    return "#" * round(size * WIDTH)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows for JSON: null where there is no number."""
    return [{k: None if v is None or v != v else _whole(v) for k, v in row.items()} for row in rows.to_dict("records")]


def neighbours(spec: ModelSpec, k: int) -> list[Neighbour]:
    """The released models nearest in shape."""
    return nearest_model(spec, k)


def listing(found: Sequence[Neighbour]) -> str:
    """A row a model: its distance in octaves, and what differs."""
    rows = [[n.name, n.family, f"{n.distance:.2f}", _differences(n), ", ".join(n.same)] for n in found]
    return table(["model", "family", "octaves", "differs in", "same shape"], rows, left=(0, 1, 3, 4))


def _differences(found: Neighbour) -> str:
    told = [f"{name} {_shown(mine)} for {_shown(theirs)}" for name, (mine, theirs) in found.differences.items()]
    return ", ".join(told) or "nothing"


def _shown(value: Any) -> str:
    return "none" if value is None else show_count(value) if value >= 10**6 else f"{value:,.0f}"
