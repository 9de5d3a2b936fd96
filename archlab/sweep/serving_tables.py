"""The tables of a run that say how its points are served: batches and operations, where there are any."""

from __future__ import annotations

import pandas as pd

from archlab.sweep.operations_table import operations_table
from archlab.sweep.served import Served
from archlab.sweep.serving_map import batches_table


def serving_tables(served: Served) -> dict[str, pd.DataFrame]:
    """Name -> table; one that would be empty is left out."""
    made = {"batches": batches_table(served), "operations": operations_table(served)}
    return {name: frame for name, frame in made.items() if not frame.empty}
