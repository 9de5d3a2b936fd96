"""Cost against the losses or scores of a user's own table."""

from __future__ import annotations

import itertools

from archlab.report import words
from archlab.report.charts import choices, cloud, cloud_table
from archlab.report.columns import quantity
from archlab.report.objectives import Aim, aims, qualities
from archlab.report.parts import Card, Figure
from archlab.report.points import Cast

COSTS = ("decode_bound_s", "kv_cache_bytes", "params", "memory_bytes", "flops_decode")
PAIRS, ROWS = 4, 60
"""Pairs of a cost and a number, and rows of the table."""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run has no such numbers."""
    cast = cast.wide
    given = qualities(cast.run)
    pairs = list(itertools.product(_costs(cast), given))[:PAIRS]
    states = cloud.states(cast, pairs) if pairs else {}
    if not states:
        return None
    ats = choices.variants(cast.run, True, lambda at: at).values()
    drawn = [m for at in ats for m in cloud.marks(cast, pairs[0], at)]
    rows = [(p, r) for p in cast.all for r in cast.run.rows[p.name][:1]]
    costs = [*_costs(cast), *given]
    names = words.listing([aim.of.name for aim in given])
    about = f"{names} against cost, a mark a point; the numbers are in the table below."
    return Card(
        "Cost against the given numbers", cloud.tags(pairs),
        f"{names} came from a table that was given with the run: archlab joined the numbers to the points and measured "
        "none of them.",
        figures=(Figure("given", "", about, states),),
        switches=(*cloud.switch(states, pairs), *choices.switches(cast.run, True, cloud.places(states, pairs))),
        legend=cloud.legend(cast, drawn),
        numbers=cloud_table.table(cast, "given-numbers", "Cost and given numbers", costs, rows[:ROWS]),
        notes=tuple(str(note) for note in cast.run.meta["notes"]),
    )  # fmt: skip


def _costs(cast: Cast) -> list[Aim]:
    """The objectives, or what a page compares first."""
    frame = cast.run.points
    there = [Aim(quantity(c)) for c in COSTS if c in frame.columns and frame[c].dropna().nunique() > 1]
    return (aims(cast.run) or there)[:3]
