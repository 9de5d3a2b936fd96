"""Structures side by side: the rows of a grid are those of each structure alone, and what one lacks is absent."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import archlab
from archlab.analyzers.memory import setting
from archlab.sweep.evaluate import survey
from archlab.sweep.laid import joined
from archlab.sweep.measures import Asked
from archlab.sweep.notable import Wanted, marginal_rows, notable
from archlab.sweep.store import read_part, write_part

WORK = archlab.Workload(new=8192, logits="last")
GRIDS = {
    "kinds of layer": ("gemma-2-9b", "pattern", [["global"], ["local"], ["local", "global"]],
                       {"kv_global_bytes": [1, 0, 1], "kv_local_bytes": [0, 1, 1]}),
    "one is refused": ("recurrentgemma-2b", "pattern", [["local"], ["recurrent", "local"], ["recurrent"]],
                       {"params_recurrent": [0, 1], "kv_recurrent_bytes": [0, 1], "kv_local_bytes": [1, 1]}),
    "a device without the rate": ("gemma-3-1b", "hardware", ["t4", "l4"],
                                  {"decode_bound_s": [0, 1], "decode_bound_by": [0, 1], "memory_bytes": [1, 1]}),
}  # fmt: skip
"""model, axis, its values; columns, and at which of the values that stand they are."""


def evaluated(case, values, **grid):
    model, key, *_ = GRIDS[case]
    return archlab.evaluate(archlab.load(model), WORK, "l4", grid={key: values, **grid}, limits="batch")


@pytest.mark.parametrize("more", [{}, {"workload.batch": [1, 3], "mlp.d_ff": [63, 512, 0]}], ids=["alone", "on a mesh"])
@pytest.mark.parametrize("case", GRIDS)
def test_rows_are_those_of_each_structure_alone(case, more):
    _, key, values, present = GRIDS[case]
    frame = whole = evaluated(case, values, **more).frame()
    alone = [evaluated(case, [value], **more).frame() for value in values]
    for own in alone:
        value, frame = frame[: len(own)], frame[len(own) :]
        own = own.drop(columns="reason")  # of a point that breaks two rules, either
        pd.testing.assert_frame_equal(value[own.columns].reset_index(drop=True), own, check_dtype=False)
        value = value.drop(columns="reason")
        assert value.drop(columns=own.columns).isna().all(axis=None)
    stands = whole[whole["status"] == "ok"]
    for column, there in present.items():
        known = stands[column].notna().groupby(stands[key], sort=False)
        assert known.all().tolist() == known.any().tolist() == [bool(t) for t in there]


def test_what_is_absent_is_null_in_parquet(tmp_path):
    base, grid = archlab.load("gemma-2-9b"), {"pattern": [["global"], ["local", "global"]], "workload.batch": [1, 2]}
    for number, part in enumerate((slice(0, 2), slice(1, 2))):
        points = survey(base, WORK, Asked(setting("l4", "bf16", "ideal")), grid).points((part, slice(0, 2)))
        write_part(tmp_path, f"part-{number}", points.frame(), {}, grid=grid)
    stored = pq.read_table(tmp_path / "part-0.parquet")
    assert stored["kv_local_bytes"].null_count == 2 and stored["kv_global_bytes"].null_count == 0
    whole, part = read_part(tmp_path, "part-0"), read_part(tmp_path, "part-1")
    pd.testing.assert_frame_equal(whole[2:].reset_index(drop=True), part[whole.columns], check_exact=True)


def test_what_is_absent_meets_no_condition_and_is_in_no_mean_or_front():
    base, grid = archlab.load("gemma-2-9b"), {"pattern": [["global"], ["local", "global"]], "workload.batch": [1, 2]}
    points = survey(base, WORK, Asked(setting("l4", "bf16", "ideal")), grid).points()
    aims = ("min kv_local_bytes", "min params")
    chosen = notable(points, Wanted(sample=1, rows="kept", objectives=aims, where=["kv_local_bytes < 100 GiB"]))
    assert chosen.n_excluded == 2 and "front" not in chosen.why[chosen.places < 2][0]
    unasked = notable(points, Wanted(sample=1, rows="kept", objectives=aims))
    assert {*unasked.places[np.char.find(unasked.why, "front") >= 0]} == {2, 3}  # a front of each batch
    rows = marginal_rows(points, (slice(0, 2), slice(0, 2)), Wanted(sample=1, objectives=aims))
    local = rows[(rows["column"] == "kv_local_bytes") & (rows["key"] == "pattern")]
    assert local["points"].tolist() == [0, 2] and local["low"].tolist()[1] == points["kv_local_bytes"][1, 0]


def side_by_side(left, right):
    """One point of each of two structures along one axis."""
    columns = [{k: np.array([v]) for k, v in c.items()} | {"ok": np.array([bool(c)])} for c in (left, right)]
    return joined([([np.array([i])], own) for i, own in enumerate(columns)], (2,))


def test_whole_numbers_stay_exact():
    most = 2**53 + 1
    both = side_by_side({"n": most, "few": 7, "either": most}, {"either": 3})
    assert both["n"].tolist() == [most, None] and both["either"].tolist() == [most, 3]
    assert both["few"].dtype == np.float64 and both["few"][0] == 7 and np.isnan(both["few"][1])
    assert pd.DataFrame(both)["n"].isna().tolist() == [False, True]


def test_truths_are_absent_too():
    assert side_by_side({"yes": True}, {"other": 1.5})["yes"].tolist() == [True, None]


def test_a_refused_structure_changes_no_type():
    both = side_by_side({"n": 2**60, "yes": True}, {})
    assert both["n"].dtype == np.int64 and both["yes"].dtype == bool and both["ok"].tolist() == [True, False]
