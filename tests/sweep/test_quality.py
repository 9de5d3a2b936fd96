"""A user's losses and scores join a sweep's points: exactly, or with a sentence that says why not."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archlab.errors import SpecError
from archlab.sweep.quality import join_quality

NAMES = ["gemma-2-9b n_kv_heads=1", "gemma-2-9b n_kv_heads=8", "gemma-3-1b n_kv_heads=1"]


@pytest.fixture
def points():
    """Three points on two devices, and one that was refused and has no hash."""
    rows = [
        {"point": name, "base": name.split()[0], "hardware": device, "config_hash": f"{i}e5", "status": "ok"}
        for device in ("l4", "t4")
        for i, name in enumerate(NAMES)
    ]
    rows.append({"point": "odd", "base": "gemma-3-1b", "hardware": "l4", "config_hash": None, "status": "refused"})
    return pd.DataFrame(rows, index=range(10, 17))


@pytest.fixture
def table(tmp_path):
    def write(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def test_losses_join_by_point(points, table):
    """A loss holds for a point on every device; blanks around names do not count, an empty cell is no value."""
    path = table("q.csv", f"point , loss,mmlu\n{NAMES[0]},2.5,\n  {NAMES[1]} ,2.25,60\n")
    joined = join_quality(points, path)
    assert joined.frame["quality_loss"].tolist()[:3] == [2.5, 2.25, pytest.approx(np.nan, nan_ok=True)]
    assert joined.frame["quality_mmlu"].dropna().tolist() == [60.0, 60.0]
    assert joined.frame["quality_loss"].dtype == joined.frame["quality_mmlu"].dtype == np.float64
    assert (joined.matched, joined.unmatched_keys, joined.notes) == (2, (), ())
    assert joined.frame.drop(columns=["quality_loss", "quality_mmlu"]).equals(points)
    assert "quality_loss" not in points


def test_scores_join_by_model_and_by_hash(points, table):
    by_model = join_quality(points, table("q.tsv", "model\tscore\ngemma-2-9b\t0.5\ngemma-3-1b\t-1e-3\n")).frame
    assert by_model["quality_score"].tolist() == [0.5, 0.5, -0.001, 0.5, 0.5, -0.001, -0.001]
    by_hash = join_quality(points, table("q.csv", "config_hash,score\n1e5,3\n0e5,2\nNone,4\n<NA>,4\n")).frame
    assert by_hash["quality_score"].tolist()[:2] == [2.0, 3.0] and by_hash["quality_score"].isna().sum() == 3


def test_four_formats_say_the_same(points, table, tmp_path):
    frame = pd.DataFrame({"point": NAMES, "loss": [2.5, None, 3.0], "steps": [1, 2, 3]})
    frame.to_csv(tmp_path / "q.csv", index=False, encoding="utf-8-sig")
    frame.to_csv(tmp_path / "q.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "q.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "q.parquet")
    frame.convert_dtypes().to_parquet(tmp_path / "nullable.parquet")
    first = join_quality(points, tmp_path / "q.csv").frame
    assert first["quality_steps"].tolist()[:3] == [1, 2, 3] and first["quality_loss"].notna().sum() == 4
    for name in ("q.tsv", "q.jsonl", "q.parquet", "nullable.parquet"):
        pd.testing.assert_frame_equal(join_quality(points, str(tmp_path / name)).frame, first)


def test_lines_of_json_need_not_have_all_keys(points, table):
    lines = [{"model": "gemma-2-9b", "a": 1}, {"model": "gemma-3-1b", "b": 2.5, "a": None}]
    frame = join_quality(points, table("q.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")).frame
    assert frame["quality_a"].notna().sum() == 4 and frame["quality_b"].notna().sum() == 3


def test_rows_that_match_nothing_are_said(points, table):
    joined = join_quality(points, table("q.csv", "model,loss\ngemma-2-9b,1\nllama,2\nGemma-3-1b,3\n"))
    assert joined.matched == 1 and joined.unmatched_keys == ("llama", "Gemma-3-1b")
    (note,) = joined.notes
    assert note.startswith("2 of 3 keys of") and note.endswith("'llama', 'Gemma-3-1b'")
    many = "model,loss\ngemma-2-9b,1\n" + "".join(f"other-{i},2\n" for i in range(9))
    assert join_quality(points, table("q.csv", many)).notes[0].endswith("'other-4' and 4 more")


def test_where_nothing_matches_the_nearest_is_named(points, table):
    joined = join_quality(points, table("q.csv", "model,loss\ngemma-2-9,1\ngemma2,2\n"))
    assert joined.matched == 0 and joined.frame["quality_loss"].isna().all()
    assert joined.notes[0].endswith(
        "gives no model of these points; its first is 'gemma-2-9'; did you mean 'gemma-2-9b'?"
    )


def test_a_key_may_come_twice_with_the_same_values(points, table):
    joined = join_quality(points, table("q.csv", "model,a,b\ngemma-2-9b,1,\ngemma-2-9b,1.0,\n"))
    assert joined.matched == 1 and set(joined.frame["quality_a"].dropna()) == {1.0}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("q.csv", "points,loss\nx,1\n", "must have one of the columns point, model, config_hash as its key; its columns are points, loss; did you mean 'point'?"),
        ("q.csv", "point,model,loss\nx,y,1\n", "as its key; it has point and model"),
        ("q.csv", "point;loss\nx;1\n", "its columns are point;loss"),
        ("q.csv", "point\nx\n", "has no column of values beside its key point"),
        ("q.csv", "point,loss\n", "has no rows"),
        ("q.csv", "", "has no rows"),
        ("q.csv", "point,loss,loss\nx,1,2\n", "has two columns loss"),
        ("q.csv", "point,,loss\nx,1,2\n", "has a column without a name"),
        ("q.csv", "point,loss\nx,1\ny,2,3\n", "row 2: 3 values where the header has 2"),
        ("q.csv", "point,loss\nx,1\ny,low\n", "row 2: loss='low' must be a finite number"),
        ("q.csv", "point,loss\nx,inf\n", "row 1: loss='inf' must be a finite number"),
        ("q.csv", 'point,loss\nx,"1,5"\n', "row 1: loss='1,5' must be a finite number"),
        ("q.csv", "point,loss\n  ,1\n", "row 1: point is empty"),
        ("q.csv", "point,loss\nx,1\ny,1\n x,2\n", "gives point 'x' twice with different values, the second time in row 3"),
        ("q.csv", "point,loss\nx,1\nx,\n", "gives point 'x' twice with different values"),
        ("q.csv", b"point,loss\n\xe4,1\n", "is not a text file in UTF-8"),
        ("q.csv", 'point,loss\nx,"1\n', "cannot be read: unexpected end of data"),
        ("q.csv", "point,here\nx,1\n", "has a column here, and these points have a column quality_here already"),
        ("q.jsonl", '{"point": "x", "loss": true}\n', "row 1: loss=True must be a finite number"),
        ("q.jsonl", '{"point": "x", "loss": [1]}\n', "row 1: loss=[1] must be a finite number"),
        ("q.jsonl", '{"point": "x", "loss": 1}\n[1]\n', "row 2: a row must be a JSON object"),
        ("q.jsonl", '{"point": "x", "loss": 1\n', "row 1: a row must be a JSON object"),
        ("q.jsonl", '{"point": "x", "loss": 1' + 400 * "0" + "}\n", "must be a finite number"),
        ("q.parquet", "x", "cannot be read as parquet"),
        ("q.json", "{}", "must end in .csv, .tsv, .jsonl, .parquet; did you mean '.jsonl'?"),
        ("config_hash", "x", "must end in .csv"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be(name, text, sentence, points, table):
    with pytest.raises(SpecError) as raised:
        join_quality(points.assign(quality_here=1.0), table(name, text))
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_and_points_without_a_hash(points, table, tmp_path):
    for name in ("q.csv", "q.jsonl", "q.parquet"):
        with pytest.raises(SpecError, match="cannot be read"):
            join_quality(points, tmp_path / name)
    with pytest.raises(SpecError, match="goes by config_hash, and these points have no column config_hash"):
        join_quality(points.drop(columns="config_hash"), table("q.csv", "config_hash,loss\nx,1\n"))


def test_lists_in_parquet_are_no_numbers(points, tmp_path):
    pd.DataFrame({"point": NAMES, "loss": [[1.0, 2.0]] * 3}).to_parquet(tmp_path / "q.parquet")
    with pytest.raises(SpecError, match=r"row 1: loss=.* must be a finite number"):
        join_quality(points, tmp_path / "q.parquet")


@given(
    losses=st.dictionaries(
        st.sampled_from([*NAMES, "other", "no, one"]), st.floats(allow_nan=False, allow_infinity=False), min_size=1
    )
)
def test_every_point_gets_its_own_loss_and_no_other(losses, tmp_path_factory):
    path = tmp_path_factory.mktemp("q") / "q.csv"
    pd.DataFrame({"loss": losses.values(), "point": losses.keys()}).to_csv(path, index=False)
    frame = pd.DataFrame({"point": [*NAMES, *NAMES], "base": "x"})
    joined = join_quality(frame, path)
    assert joined.matched + len(joined.unmatched_keys) == len(losses)
    for name, loss in zip(joined.frame["point"], joined.frame["quality_loss"], strict=True):
        assert loss == losses[name] if name in losses else np.isnan(loss)
