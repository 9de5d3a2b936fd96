"""What the committed reports say in their headings, against their rows read without archlab."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archlab.report import words
from archlab.report.charts.timed_lines import BATCH, CONTEXT
from archlab.report.findings import findings
from archlab.report.load import load_run
from archlab.report.page import heading
from archlab.report.points import cast
from archlab.report.rivals import Rival, _where

REPORTS = Path(__file__).parents[2] / "reports"
RUNS = sorted(p.parent.name for p in REPORTS.glob("*/run.json"))
H200 = "h200-sxm"


@functools.cache
def said(name):
    return heading(cast(load_run(REPORTS / name)))


def table(name, file="points"):
    return pd.read_parquet(REPORTS / name / f"{file}.parquet")


def text_of(finding):
    return re.sub("<[^>]*>", "", str(finding.text))


def shown(share):
    """A change in words, written down a second time."""
    for n, word in {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "1/6", 8: "1/8"}.items():
        if abs(share * n - 1) <= 0.02:
            return f"to {word}"
    if share >= 1.95:
        return "doubles" if abs(share - 2) < 0.02 else f"{share:.1f}".removesuffix(".0") + "-fold"
    digits = 0 if abs(share - 1) >= 0.1 else 1 if abs(share - 1) >= 0.01 else 2
    return f"by {100 * abs(share - 1):.{digits}f} %"


STUDIES = {
    "attention_heads": ("model.attention.n_kv_heads", 8, 1),
    "head_dim": ("model.attention.head_dim", 64, 512),
    "kv_sharing": ("model.spans.shared.layers", "-10:", "-25:"),
    "local_global_ratio": ("model.pattern", "global", "local*5 global"),
    "window": ("model.local.window", 256, 4096),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_heading_has_the_changes_of_the_rows(name):
    key, before, after = STUDIES[name]
    rows = table(name)
    rows = rows[rows.hardware == H200].set_index([key, "workload"])
    title, more = said(name)
    works = list(dict.fromkeys(rows.index.get_level_values(1)))
    steps = []
    for work in works:
        a, b = rows.loc[(before, work)], rows.loc[(after, work)]
        cache = shown(b.kv_cache_bytes / a.kv_cache_bytes)
        assert cache.removeprefix("by ") in title, (work, cache)
        steps.append(b.decode_bound_s / a.decode_bound_s)
    most = max(steps, key=lambda s: abs(np.log(s)))
    small = max(most, 1 / most) < 1.05
    told = [f"at most {shown(most).removeprefix('by ')}"] if small else [shown(s).removeprefix("by ") for s in steps]
    step = title.partition("bound on a decode step ")[2]
    assert re.findall(r"(?:at most )?[\d.]+(?:-fold| %)", step) == told
    for value in (a, b):
        assert f"{value.kv_cache_bytes / 2**30:.2f}" in more and f"{value.decode_bound_s * 1e3:.2f}" in more


def test_a_change_that_is_small_everywhere_is_its_largest():
    rows = table("window")
    rows = rows[rows.hardware == H200].pivot(index="workload", columns="model.local.window", values="decode_bound_s")
    assert f"bound on a decode step by at most {max(rows[4096] / rows[256] - 1) * 100:.1f} %" in said("window")[0]


def test_an_axis_that_changes_nothing_is_named():
    rows = table("depth_width")
    rows = rows[rows.hardware == H200]
    for column in ("kv_cache_bytes", "decode_bound_s"):
        grouped = rows.groupby("model.n_layers")[column]
        assert (grouped.max() / grouped.min()).max() < 1.005
    assert said("depth_width")[0].endswith("; d_model changes neither")
    deep = rows[rows["model.d_model"] == 3584].set_index("model.n_layers").prefill_bound_s
    assert f"The bound on a prefill rises by {100 * (deep[56] / deep[28] - 1):.1f} % at 8k" in said("depth_width")[1]


def test_a_batch_up_to_which_is_that_of_a_search():
    """The finer table of batches, each batch that both models fit."""
    rows = table("moe_vs_dense", "batches")
    rows = rows[(rows.context == 8192) & rows.fits]
    bound = rows.pivot_table(index="batch", columns="point", values="decode_bound_s")
    title = said("moe_vs_dense")[0]
    for rival, where in (
        ("gemma-4-31b", "at every batch at which both fit"),
        ("gemma-4-12b", None),
        ("gemma-4-e4b", None),
    ):
        both = bound[["gemma-4-26b-a4b", rival]].dropna()
        wins = both.index[both["gemma-4-26b-a4b"] < both[rival]]
        last = int(wins.max())
        assert list(wins) == [b for b in both.index if b <= last]
        where = where or (f"up to batch {last}" if len(wins) > 1 else f"with batch {last} alone")
        assert f"that of {rival} {where}" in title
    against = (bound["gemma-4-26b-a4b"] / bound["gemma-4-12b"]).dropna()
    best, worst = against.idxmin(), against.idxmax()
    least, most = (f"{100 * abs(against[b] - 1):.0f} %" for b in (best, worst))
    far = f"at most {least} lower, with batch {best}, and at most {most} higher, with batch {worst}; "
    assert far in said("moe_vs_dense")[1] and against.iloc[-1] < against[worst]
    rows = table("moe_vs_dense").set_index(["base", "batch"])
    memory = rows.memory_bytes["gemma-4-26b-a4b", 1] / rows.memory_bytes["gemma-4-12b", 1]
    assert f"needs {memory:.1f} times the memory" in said("moe_vs_dense")[1]
    active = rows.active_params["gemma-4-26b-a4b", 1] / 1e9
    assert f"uses {active:.2f} B of its" in said("moe_vs_dense")[1]


def test_a_context_from_which():
    rows = table("recurrent_vs_attention", "batches")
    points = table("recurrent_vs_attention")
    own = points[points.fits]
    assert set(rows.context) > set(own.context)  # the finer table has contexts that the study does not list
    bound = own.pivot_table(index="context", columns="point", values="decode_bound_s")
    title, more = said("recurrent_vs_attention")
    for rival in ("gemma-2-9b", "gemma-7b"):
        saved = 100 * (1 - bound["recurrentgemma-9b"] / bound[rival]).dropna()
        assert (saved > 0).all()
        low = f"{saved.min():.2f}" if saved.min() < 1 else f"{saved.min():.1f}"
        assert f"by {low} to {saved.max():.0f} %" in title
    first = next(c for c, s in saved.items() if s >= 100 * (1 - 1 / 1.05))
    assert f"That of gemma-7b is more than 5 % higher from {first // 1024}k tokens on" in more


def test_the_largest_that_fit():
    """Of all pairs at the middle workload: the largest of each device, and from which device on it is the same."""
    rows = table("fit_matrix")
    rows = rows[(rows.context == 32768) & (rows.precision == "q4_k_m")]
    room = rows.groupby("hardware").memory_budget_bytes.max().sort_values(kind="stable")
    held = rows[rows.fits].sort_values("params").groupby("hardware").base.last()
    order = [held[h] for h in room.index if h in held]
    run = load_run(REPORTS / "fit_matrix")
    title = run.meta["hardware"][next(h for h in room.index if held.get(h) == order[-1])]["title"]
    first = run.meta["hardware"][next(h for h in room.index if h in held)]["title"]
    assert order[order.index(order[-1]) :] == [order[-1]] * order.count(order[-1])
    assert said("fit_matrix")[0] == (
        f"With 32k tokens in q4_k_m, the largest model that fits is {order[0]} on {first} and {order[-1]} from {title} up"
    )


def test_a_family_names_both_models():
    rows = table("gemma")
    cache = rows[(rows.context == 131072)].groupby("base").kv_cache_bytes.max() / 2**30
    for model in ("gemma-7b", "gemma-4-e4b"):
        assert f"{cache[model]:.2f} GiB for {model}" in said("gemma")[0]


def test_fewer_bits():
    rows = table("quantisation")
    h100 = rows[rows.hardware == "h100-sxm"].set_index(["precision", "context"])
    title = said("quantisation")[0]
    for column in ("memory_bytes", "decode_bound_s"):
        saved = [100 * (1 - h100[column]["int4", c] / h100[column]["bf16", c]) for c in (8192, 131072)]
        assert re.search(rf"by {saved[0]:.0f} %[^,]* and {saved[1]:.0f} %", title)
    small = rows[rows.hardware == "rtx-4090"].groupby("precision").max_context.max()
    assert small["bf16"] == 0 and f"GeForce RTX 4090 holds {small['int4'] // 1024}k tokens instead of none" in title
    assert h100.memory_bytes.groupby("precision").max().idxmin() == "int4"


def test_a_longer_context():
    rows = table("long_context")
    title = said("long_context")[0]
    for model, held in (("gemma-4-31b", [H200]), ("llama-3.1-8b", [])):
        mine = rows[rows.base == model]
        last = mine[mine.context == 2**20]
        grown = last.memory_bytes.max() / mine[mine.context == 8192].memory_bytes.max()
        assert re.search(rf"{model} (needs )?{grown:.1f} times", title)
        assert list(last[last.fits].hardware) == held
    assert "alone, llama" in title and title.endswith("fits neither device")


def spoken(name):
    """Every sentence of a heading and of the findings."""
    points = cast(load_run(REPORTS / name))
    title, more = said(name)
    first = more.split(points.run.meta["question"])[0]
    return [title, *re.split(r"(?<=\.) (?=[A-Z])", first), *(text_of(f) for f in findings(points))]


@pytest.mark.parametrize("name", RUNS)
def test_beyond_the_trained_context_it_is_said(name):
    """In a run of models that were all trained for less, each sentence that names so long a context says so."""
    trained = table(name).trained_context.max()
    for sentence in spoken(name):
        named = [
            int(n) * {"k": 1024, "M": 2**20}[u] for n, u in re.findall(r"(?<!trained )\b(\d+)([kM]) tokens", sentence)
        ]
        if any(n > trained for n in named) and "longest context" not in sentence:
            assert "beyond" in sentence, sentence


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_times_smaller(name):
    for sentence in spoken(name):
        assert not re.search(r"times (smaller|fewer|lower|less)", sentence)
        assert len(sentence) < 330


# ---------------------------------------------------------------- small words


@pytest.mark.parametrize("share", np.geomspace(0.0001, 0.97, 60))
def test_a_share_in_words_is_near_the_share(share):
    less = words.less(1 / share, "smaller")
    fraction = re.match(r"1/([\d,]+) of", less)
    named = {"half": 1 / 2, "a third": 1 / 3, "a quarter": 1 / 4, "a fifth": 1 / 5}
    if fraction:
        assert 1 / int(fraction[1].replace(",", "")) == pytest.approx(share, rel=0.055)
    elif less.endswith(" of"):
        assert named[less.removesuffix(" of")] == pytest.approx(share, rel=0.021)
    else:
        assert float(less.split()[0]) / 100 == pytest.approx(1 - share, abs=0.0051)


def test_an_exact_share_is_a_fraction():
    assert [words.becomes(1 / n)[1] for n in (2, 3, 4, 5, 8)] == [
        "to half",
        "to a third",
        "to a quarter",
        "to a fifth",
        "to 1/8",
    ]
    assert words.big(3, "smaller") == ("1/3", "of") and words.big(2.28, "smaller") == ("56", "% smaller than")


@pytest.mark.parametrize(
    ("ratios", "along", "where"),
    [
        ({1: 0.5, 4: 0.9}, BATCH, "at every batch"),
        ({1: 1.5, 4: 1.9}, BATCH, "at no batch"),
        ({1: 0.5, 4: 1.1, 8: 2}, BATCH, "with batch 1 alone"),
        ({1: 0.5, 4: 0.6, 8: 2}, BATCH, "up to batch 4"),
        ({1024: 1.5, 4096: 0.6, 8192: 0.3}, CONTEXT, "from 4k tokens on"),
        ({1024: 1.5, 4096: 0.6, 8192: 1.3}, CONTEXT, "at 1 of 3 values of context"),
    ],
)  # fmt: skip
def test_where_it_wins(ratios, along, where):
    assert _where(Rival(None, ratios, lost=False), along) == where


def test_every_study_has_an_answer_of_its_own():
    """No heading is the question, and none is the bare 'changes neither'."""
    for name in RUNS:
        asked = json.loads((REPORTS / name / "run.json").read_text())["question"]
        assert said(name)[0] != asked and "changes neither cache" not in said(name)[0]
