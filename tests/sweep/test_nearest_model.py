"""A released model is nearest to itself, distances are those of a loop, and the table of rows agrees with the specs."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.errors import SpecError
from archlab.paths import data_dir
from archlab.sweep.nearest_model import SHAPE, distance, nearest_model, nearest_models, shape_of

SPECS = {name: archlab.load(name) for name in archlab.models()}
SHAPES = {name: shape_of(spec) for name, spec in SPECS.items()}


def slow_distance(a: dict, b: dict) -> float:
    """Octaves, field by field; a field of one side alone is one octave."""
    octaves = [
        0.0 if a[f] is None and b[f] is None else 1.0 if None in (a[f], b[f]) else math.log2(a[f]) - math.log2(b[f])
        for f in SHAPE
    ]
    return math.sqrt(sum(o * o for o in octaves) / 9)


@pytest.mark.parametrize("name", SPECS)
def test_a_released_model_is_nearest_to_itself(name):
    first, *others = nearest_model(SPECS[name], k=len(SPECS))
    assert first.distance == 0 and not first.differences
    assert name in (first.name, *first.same)
    assert first.family == SPECS[first.name].family
    for found in others:
        assert found.distance == pytest.approx(slow_distance(SHAPES[name], SHAPES[found.name]), abs=1e-12)
        assert found.differences == {
            f: (SHAPES[name][f], SHAPES[found.name][f]) for f in SHAPE if SHAPES[name][f] != SHAPES[found.name][f]
        }
    away = [found.distance for found in others]
    assert away == sorted(away) and away[0] > 0


def test_every_preset_stands_for_itself_or_behind_its_base():
    named = [n for found in nearest_model(SPECS["gemma-2b"], 99) for n in (found.name, *found.same)]
    assert sorted(named) == sorted(SPECS)
    bases = {found.name: found.same for found in nearest_model(SPECS["gemma-2b"], 99)}
    assert bases["gemma-2-27b"] == ("shieldgemma-27b", "datagemma-rag-27b", "datagemma-rig-27b")
    assert bases["gemma-3-4b"] == ("medgemma-4b", "shieldgemma-2-4b")


@given(st.sampled_from(sorted(SPECS)), st.sampled_from(sorted(SPECS)))
def test_distance_is_symmetric(a, b):
    assert (
        distance(SPECS[a], SPECS[b])
        == distance(SPECS[b], SPECS[a])
        == pytest.approx(slow_distance(SHAPES[a], SHAPES[b]))
    )


def test_a_doubled_field_is_a_third_of_an_octave():
    """One of nine fields and nothing else (the window changes no count of parameters): sqrt(1 / 9)."""
    wider = archlab.load("gemma-2-9b", {"local.window": 8192})
    narrower = archlab.load("gemma-2-9b", {"local.window": 2048})
    assert distance(SPECS["gemma-2-9b"], wider) == pytest.approx(1 / 3) == distance(SPECS["gemma-2-9b"], narrower)
    none = archlab.load("gemma-2-9b", {"pattern": ["global"]})
    assert shape_of(none)["window"] is None
    assert distance(SPECS["gemma-2-9b"], none) == pytest.approx(1 / 3)
    found = nearest_model(wider, k=1)
    assert [(n.name, n.differences) for n in found] == [("gemma-2-9b", {"window": (8192, 4096)})]


rows = st.fixed_dictionaries(
    {f: st.one_of(st.none(), st.floats(1, 1e6)) if f == "window" else st.floats(1, 1e6) for f in SHAPE}
)


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_rows_are_the_nearest_by_a_loop(drawn):
    found = nearest_models(pd.DataFrame(drawn, index=[f"p{i}" for i in range(len(drawn))]))
    assert found.index.tolist() == [f"p{i}" for i in range(len(drawn))]
    for row, name in zip(drawn, found, strict=True):
        least = min(slow_distance(row, shape) for shape in SHAPES.values())
        assert slow_distance(row, SHAPES[name]) == pytest.approx(least, abs=1e-12)


def test_rows_and_specs_agree():
    frame = pd.DataFrame([SHAPES[name] for name in SPECS])
    for made in (frame, frame.astype({"window": "Int64"}), frame.assign(more="text").astype({"window": object})):
        assert nearest_models(made).tolist() == [nearest_model(spec, 1)[0].name for spec in SPECS.values()]
    many = pd.concat([frame] * 200)
    assert nearest_models(many).tolist() == nearest_models(frame).tolist() * 200
    assert nearest_models(frame[:0]).empty


def test_the_second_call_reads_no_file():
    nearest_model(SPECS["gemma-2b"])
    start = time.perf_counter()
    nearest_model(SPECS["gemma-7b"])
    assert time.perf_counter() - start < 0.5  # 4 ms; reading all presets takes 0.4 s


def test_a_users_own_model_is_not_a_released_one(tmp_path, monkeypatch):
    text = (data_dir("conf") / "model" / "gemma-2b.yaml").read_text()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(text.replace("gemma-2b", "mine").replace("2048", "2056"))
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(tmp_path))
    assert "mine" in archlab.models()
    assert nearest_model(archlab.load("mine"))[0].name == "gemma-2b"


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_is_a_count(k):
    with pytest.raises(SpecError, match="must be a whole number of 1 or more"):
        nearest_model(SPECS["gemma-2b"], k)


@pytest.mark.parametrize("change, says", [
    ({"d_model": 0}, "d_model=0 must be above 0"), ({"params": np.inf}, "params=inf must be above 0"),
    ({"d_ff": "wide"}, "d_ff must be numbers above 0"),
])  # fmt: skip
def test_a_row_that_is_no_shape_is_one_sentence(change, says):
    with pytest.raises(SpecError, match=says):
        nearest_models(pd.DataFrame([SHAPES["gemma-2b"] | change]))


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(SpecError, match="head_dim, params is not there"):
        nearest_models(pd.DataFrame([SHAPES["gemma-2b"]]).drop(columns=["head_dim", "params"]))
