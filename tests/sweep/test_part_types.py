"""Types of stored parts: what Python's integers hold and float64 does not is stored, rounded."""

import pandas as pd

from archlab.sweep.part_types import table_of


def test_whole_numbers_beyond_2_to_the_53_are_stored():
    """gemma-3-27b, all layers global, a prefill of 128k: the FLOPs of a pattern, which no column computes."""
    flops = 15_436_250_571_866_113
    rows = pd.DataFrame({"flops_prefill": pd.Series([flops, None], dtype=object), "params": [1, 2]})
    table = table_of(rows, {})
    assert table["flops_prefill"].to_pylist() == [float(flops), None]
    assert table["params"].to_pylist() == [1.0, 2.0]
