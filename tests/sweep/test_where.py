"""Conditions agree with SQLite, which knows missing values, and with Python; what is no condition is one sentence."""

import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.errors import SpecError
from archlab.sweep.where import matched, parse_where
from archlab.sweep.where_tokens import MOST_DEPTH
from archlab.sweep.where_units import measured_in

KNOWN = ["memory_bytes", "decode_bound_s", "attention.n_kv_heads", "params", "workload.context", "hardware", "fits",
         "max_context", "local.window", "encoder.local.window", "flops_prefill"]  # fmt: skip


def holds(text: str, **columns) -> list[bool]:
    """The mask over columns given by name (dots as two underscores)."""
    named = {name.replace("__", "."): np.asarray(column) for name, column in columns.items()}
    return parse_where(text, list(named)).mask(named.__getitem__).tolist()


@pytest.mark.parametrize("text, names", [
    ("memory_bytes <= 24 GiB and decode_bound_s < 20 ms", ("memory_bytes", "decode_bound_s")),
    ("model.attention.n_kv_heads in [1, 2] or params < 9B", ("attention.n_kv_heads", "params")),
    ("n_kv_heads not in (1, 2)", ("attention.n_kv_heads",)),
    ("context >= 32k", ("workload.context",)),
    ("hardware == 'h200-sxm'", ("hardware",)),
    ("fits and not max_context < 128k", ("fits", "max_context")),
    ("model.local.window < 3", ("local.window",)),
])  # fmt: skip
def test_names_are_found_among_the_columns(text, names):
    assert parse_where(text, KNOWN).names == names
    assert parse_where(text, KNOWN).text == text


@pytest.mark.parametrize("text, column, limit", [
    ("memory_bytes < 24 GiB", "memory_bytes", 24 * 2**30), ("memory_bytes < 1.5GB", "memory_bytes", 1.5e9),
    ("memory_bytes < 7 MiB", "memory_bytes", 7 * 2**20), ("memory_bytes < 2 TB", "memory_bytes", 2 * 10**12),
    ("decode_s < 20 ms", "decode_s", 0.02), ("decode_s < 3us", "decode_s", 3e-6), ("decode_s < 2 s", "decode_s", 2.0),
    ("params < 9B", "params", 9 * 10**9), ("params < 1.3 B", "params", 1.3e9), ("params < 2M", "params", 2 * 10**6),
    ("flops_prefill < 3T", "flops_prefill", 3 * 10**12), ("vocab_size < 256k", "vocab_size", 2**18),
    ("max_context < 1M", "max_context", 2**20), ("workload.context < 32k", "workload.context", 2**15),
    ("params < 1_000", "params", 1000), ("params < 2e3", "params", 2000), ("params / 2 < 1M", "params", 2 * 10**6),
    ("context + max_context < 2M", "context", 2**21),
])  # fmt: skip
def test_units(text, column, limit):
    """The limit itself is out, the next number below it is in."""
    below = np.nextafter(float(limit), 0)
    found = parse_where(text).mask(lambda name: np.array([below, limit]) if name == column else np.array([0, 0]))
    assert found.tolist() == [True, False]


def test_whole_numbers_are_compared_exactly():
    big = np.array([2**53, 2**53 + 1, 2**63 - 1])
    assert holds(f"n == {2**53 + 1}", n=big) == [False, True, False]
    assert holds(f"n < {2**63 - 1}", n=big) == [True, True, False]
    assert holds(f"n < {10**30}", n=big) == [True, True, True]


@pytest.mark.parametrize("text, says", [
    ("memory_byte < 3", r"unknown column 'memory_byte'; did you mean 'memory_bytes'\?"),
    ("n_kv_head < 3", "did you mean 'n_kv_heads'"),
    ("window < 3", r"window may be local.window or encoder.local.window; write which"),
    ("model.window < 3", "unknown column 'model.window'"),
    ("params < 3 gib", "3 gib has an unknown unit; did you mean 'GiB'"),
    ("context < 1B", "workload.context is in tokens, and 1B is not; write it as 32k or 1M"),
    ("memory_bytes < 24B", "memory_bytes is in bytes, and 24B is not; write it as 24 GiB"),
    ("20 GiB > decode_bound_s", "decode_bound_s is in seconds, and 20 GiB is not; write it as 20 ms"),
    ("params in [1, 2 ms]", "params is in a count, and 2 ms is not"),
    ("flops_prefill / context < 3M", r"3M may be of tokens \(2\^20\) or of a count \(10\^6\); write it out"),
    ("params = 3", "'=' has no meaning there; write == to compare"),
    ("fits & fits", "'&' has no meaning there; write and"),
    ("params < foo(3)", r"foo\(\) is unknown \(known: min, max, abs\)"),
    ("params < mix(3)", r"mix\(\) is unknown; did you mean 'min'\?"),
    ("hardware == h200-sxm", "unknown column 'h200'; text stands in quotes"),
    ("1 < 2", "it names no column"),
    ("params in hardware", "a list stands after in"),
    ("params == [1]", "a list stands after in"),
    ("params in []", "a list holds one or more"),
    ("params in [params]", "a list holds one or more"),
    ("params in [-'a']", "a list holds one or more"),
    ("params + 1", "neither a comparison nor a column of yes and no"),
    ("True and fits", "neither a comparison nor a column of yes and no"),
    ("(fits == fits) < 3", "was expected where it has a condition"),
    ("abs(params, 3) < 3", r"abs\(\) takes one number"),
    ("min() < params", r"min\(\) takes one or more numbers"),
    ("min(*params) < 3", "was expected"),
    ("(params)(3) < 3", "brackets follow something that is no function"),
    ("params < 1e999", "1e999 is too large"),
    ("params < 3 and", "do not follow one another"),
    ("params is 3", "do not follow one another"),
    ("params ** 9 < 3", "do not follow one another"),
    ("9 ** params ** 9 < 3", "do not follow one another"),
    ("params if fits else 3", "do not follow one another"),
    ("params.__class__ < 3", "unknown column"),
    ("__import__('os')", "'_' has no meaning there"),
    ("params; fits", "';' has no meaning there"),
    ("params < \u0663", "has no meaning there"),
    ("hardware == 'a", "has no meaning there"),
    ("params[0] < 3", "was expected"),
    ("x" * 3000, "is longer than 2,000"),
    ("not " * 100 + "fits", f"more than {MOST_DEPTH} operations inside one another"),
    ("-" * 1900 + "params < 3", "not a condition"),
    ("(" * 100 + "fits" + ")" * 100, f"more than {MOST_DEPTH} brackets are open"),
    ("", "must be a condition"),
])  # fmt: skip
def test_what_is_no_condition_is_one_sentence(text, says):
    with pytest.raises(SpecError, match=says) as told:
        parse_where(text, KNOWN)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("text, says", [
    ("params", "params is a number, not a condition"),
    ("hardware", "hardware is text, not a condition"),
    ("not params", "params is a number, not a condition"),
    ("params < 'a'", "params is a number and 'a' is text"),
    ("hardware in [1]", "hardware is text and 1 is a number"),
    ("fits == 1", "fits is yes or no and 1 is a number"),
    ("hardware < 'a'", "hardware is text, which has no order; write ==, != or in, not <"),
    ("hardware + 1 < 3", "hardware is text; . takes numbers"),
    ("max(fits, 1) < 3", r"fits is yes or no; max\(\) takes numbers"),
    ("mixed == 1", "mixed cannot be compared"),
])  # fmt: skip
def test_kinds_that_do_not_go_together_are_one_sentence(text, says):
    columns = {"params": [1.0], "hardware": ["h200"], "fits": [True], "mixed": np.array([1, "a"], dtype=object)}
    with pytest.raises(SpecError, match=says):
        parse_where(text, columns).mask(lambda name: np.asarray(columns[name]))


def test_what_is_missing_satisfies_nothing():
    gap = np.array([np.nan, 1.0])
    for text in ("x == 1", "x != 2", "x < 2", "not x > 2", "not x == 2", "x in [1]", "not x in [2]", "x not in [2]",
                 "abs(x) == 1", "max(x, 0) > 0", "not (x > 2 or x > 3)", "0 < x < 2", "not 2 < x < 3"):  # fmt: skip
        assert holds(text, x=gap) == [False, True], text
    assert holds("not fits", fits=np.array([None, False, True], dtype=object)) == [False, True, False]
    assert holds("name != 'a'", name=np.array([None, "b", "a"], dtype=object)) == [False, True, False]
    nothing = np.array([None, None], dtype=object)
    for text in ("x < 1", "x == 'a'", "x", "not x", "x + 1 > 0", "not x != 2"):
        assert holds(text, x=nothing) == [False, False], text
    assert holds("1 / x != 3 or 1 // x != 3 or 1 % x != 3", x=np.array([0.0, 2.0])) == [False, True]


def test_pandas_columns_of_every_sort():
    frame = pd.DataFrame({
        "model.attention.n_kv_heads": pd.array([1, None, 4], dtype="Int64"),
        "fits": pd.array([True, None, False], dtype="boolean"),
        "hardware": pd.array(["a", None, "b"], dtype="string"),
        "kind": pd.Categorical(["x", "y", None]),
        "params": [1, 2, 3],
    })  # fmt: skip
    for text, rows in {
        "n_kv_heads >= 1": [0, 2], "attention.n_kv_heads != 1": [2], "not fits": [2], "fits or params == 3": [0, 2],
        "hardware != 'a'": [2], "kind in ['y', 'z']": [1], "params < 3 and not params == 1": [1],
    }.items():  # fmt: skip
        assert np.flatnonzero(parse_where(text).mask(frame)).tolist() == rows, text
    assert parse_where("params < 3").mask(frame[:0]).shape == (0,)
    with pytest.raises(SpecError, match="did you mean 'params'"):
        parse_where("param < 3").mask(frame)


def test_several_clauses_all_hold():
    both = parse_where(["a < 3", "b > 1 or a == 0"])
    assert both.names == ("a", "b")
    assert both.mask(lambda n: np.array({"a": [0, 1, 2, 5], "b": [0, 0, 2, 2]}[n])).tolist() == [
        True,
        False,
        True,
        False,
    ]
    assert both.mask(lambda n: np.array(1)).tolist() is False
    assert parse_where(both.text).names == both.names
    for wrong in ([], ["a < 3", 4], 3):
        with pytest.raises(SpecError, match="must be a condition"):
            parse_where(wrong)


def test_a_mesh_of_a_hundred_million_points_costs_what_its_axes_cost():
    axes = [np.arange(100.0).reshape([-1 if i == j else 1 for j in range(4)]) for i in range(4)]
    mesh = {name: np.broadcast_to(axis, (100,) * 4) for name, axis in zip("abcd", axes, strict=True)}
    found = parse_where("a < 50 and not b < 10").mask(mesh.__getitem__)
    assert found.shape == (100, 100, 1, 1) or found.strides[2:] == (0, 0)
    assert found[49, 10, 0, 0] and not found[50, 10, 0, 0] and not found[49, 9, 0, 0]


def test_the_points_of_a_sweep():
    spec, work = archlab.load("gemma-2-9b"), archlab.Workload(1, new=8192, context=8192)
    points = archlab.evaluate(
        spec, work, "h200-sxm", grid={"attention.n_kv_heads": [1, 2, 3, 8], "workload.context": [1024, 8192]}
    )
    frame = points.frame()
    for text in (
        "kv_cache_bytes < 500 MiB",
        "n_kv_heads in [2, 3] and decode_bound_s < 1 s",
        "not context == 1k",
        "decode_bound_by == 'memory'",
    ):
        rows = parse_where(text, frame.columns).mask(frame)
        chosen = frame[rows]
        assert 0 < len(chosen) < len(frame)
        assert ("n_kv" in text or "context" in text) or (chosen["status"] == "ok").all()


numbers = st.sampled_from(["x", "y", "0", "1", "2.5", "3"])
terms = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        inner.map(lambda t: f"abs({t})"),
    ),
    max_leaves=5,
)
comparisons = st.one_of(
    st.tuples(terms, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), terms).map(" ".join),
    st.tuples(terms, st.sampled_from(["in (1, 2.5)", "not in (0, 3)", "in (0, 1, 2)"])).map(" ".join),
    st.tuples(st.just("t"), st.sampled_from(["== 'a'", "!= 'a'", "in ('a', 'b')", "not in ('b', 'c')"])).map(" ".join),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda c: f"not ({c})"),
    ),
    max_leaves=6,
)
VALUES = [None, 0.0, 1.0, 2.5, 3.0, -2.0]
TABLE = [(x, y, t) for x in VALUES for y in VALUES for t in (None, "a", "b", "c")]


@pytest.fixture(scope="module")
def sqlite():
    with sqlite3.connect(":memory:") as database:
        database.execute("create table points (x real, y real, t text)")
        database.executemany("insert into points values (?, ?, ?)", TABLE)
        yield database


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(conditions)
def test_sqlite_chooses_the_same_rows(sqlite, condition):
    """SQL's three-valued logic is somebody else's; rows are numbered from 1."""
    text = f"x == x and {condition} or y == y and {condition}"  # names a column, whatever was drawn
    columns = {
        name: np.array(column, dtype=object) for name, column in zip("xyt", zip(*TABLE, strict=True), strict=True)
    }
    expected = [row - 1 for (row,) in sqlite.execute(f"select rowid from points where {text} order by rowid")]
    assert np.flatnonzero(parse_where(text).mask(columns.__getitem__)).tolist() == expected


@given(
    st.floats(-9, 9),
    st.floats(-9, 9),
    st.sampled_from(["x // y == z", "x % y < 1", "x / y <= z < x", "-x < +y", "x - -y != 2 * z"]),
)
def test_python_agrees_where_nothing_is_missing(x, y, text):
    z = x // y if y else 0.0
    try:
        expected = eval(text, {"x": x, "y": y, "z": z})
    except ZeroDivisionError:
        expected = False
    assert holds(text, x=[x], y=[y], z=[z]) == [expected]


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        parse_where(text, KNOWN)
    except SpecError as told:
        assert "\n" not in str(told)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                "params",
                "fits",
                "<",
                "==",
                "in",
                "not",
                "and",
                "(",
                ")",
                "[",
                "]",
                ",",
                "-",
                "*",
                "3",
                "GiB",
                "min",
                "'a'",
                "True",
                "k",
            ]
        ),
        max_size=14,
    )
)
def test_any_words_are_read_or_refused(words):
    columns = {"params": np.array([1.0, np.nan]), "fits": np.array([True, False])}
    try:
        found = parse_where(" ".join(words), columns).mask(columns.__getitem__)
        assert found.dtype == bool and found.shape == (2,)
    except SpecError:
        pass


@pytest.mark.parametrize("name, unit", [
    ("memory_bytes", "bytes"), ("kv_bytes_per_token", "a rate"), ("decode_bound_s", "seconds"), ("params", "a count"),
    ("local.window", "tokens"), ("max_context", "tokens"), ("tokens_per_s", "a rate"), ("fits", "a count"),
])  # fmt: skip
def test_a_column_says_its_unit(name, unit):
    assert measured_in(name) == unit


def test_a_name_is_matched_exactly_first():
    assert matched("a", ["b.a", "a"]) == "a"
    assert matched("model.a", ["a", "b.a"]) == "a"
    assert matched("a", ["model.a", "b.a"]) == "model.a"
