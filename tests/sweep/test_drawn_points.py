"""Which points of a large run are drawn: bases, fronts, and a spread over the rest."""

import pandas as pd

from archlab.sweep.gather import drawn_names


def frame(n):
    names = [f"p{i:04}" for i in range(n) for _ in range(2)]  # two workloads
    numbers = pd.Series([int(name[1:]) for name in names])
    status = ["refused" if i % 7 == 3 else "ok" for i in numbers]
    return pd.DataFrame({"point": names, "status": status, "is_base": numbers == n - 1, "front": numbers % 40 == 0})


def test_all_of_a_small_run():
    points = frame(50)
    assert drawn_names(points, 64) == set(points.loc[points["status"] == "ok", "point"])


def test_a_large_run_from_end_to_end():
    points = frame(2000)
    names = drawn_names(points, 64)
    assert len(names) == 64 and "p1999" in names
    standing = points[points["status"] == "ok"].set_index("point")
    assert names <= set(standing.index)
    front = set(standing.index[standing["front"]])
    assert len(names & front) >= 20
    eighths = {int(name[1:]) // 250 for name in names - front}
    assert eighths == set(range(8))
