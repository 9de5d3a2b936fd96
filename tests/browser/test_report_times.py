"""What a report says of times: measured, extrapolated, predicted and bound, each by its name and none by another's."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest
import runs
from drawn import settled

from archlab.report import load_run, render, timed, times, trust
from archlab.report.charts import latency_scaling, measured_predicted, time_by_part
from archlab.report.charts.time_axis import tick, time_axis
from archlab.report.points import cast
from archlab.sweep.study import cpu_study, load_study
from archlab.sweep.timing import study_points, study_workloads

NEW = (
    "source", "sampled", "residual", "predicted_source", "read_bytes_per_s", "copy_bytes_per_s", "kernels", "runs",
    "attention", "warnings",
    *(f"predicted_{x}" for x in ("s", "error_median", "error_p90", *(f"{part}_s" for part in runs.PARTS))),
)  # fmt: skip
"""The columns of measured.parquet that an older run has not."""


def section(page: Path, name: str) -> str:
    """What a section says, without its marks."""
    found = re.search(rf'<section id="{name}".*?</section>', page.read_text(), re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", found[0]))) if found else ""


def card(page: Path, title: str) -> str:
    """What a card of the latency section says."""
    cards = re.split(
        r'<div class="card"', re.search(r'<section id="latency".*?</section>', page.read_text(), re.DOTALL)[0]
    )
    found = next(c for c in cards if re.search(rf"<h3>{re.escape(title)}", c))
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", found)))


def figures(page: Path) -> dict[str, Any]:
    packed = re.search(r'id="figures">([^<]*)', page.read_text())[1]
    return json.loads(gzip.decompress(base64.b85decode(packed.strip().replace(".", "<"))))["figures"]


def without(folder: Path, to: Path, *columns: str) -> Path:
    """The run again, its measured rows without some columns."""
    to.mkdir()
    for file in folder.iterdir():
        if file.suffix in (".parquet", ".json"):
            (to / file.name).write_bytes(file.read_bytes())
    frame = pd.read_parquet(to / "measured.parquet")
    frame.drop(columns=[c for c in columns if c in frame]).to_parquet(to / "measured.parquet", index=False)
    return to


# ---------------------------------------------------------------- which pictures there are

PICTURES = {
    "attention_heads": {"measured"},
    "fast_heads": {"predicted", "measured", "timed-context", "parts", "trust"},
    "batch_context": {
        "predicted", "measured", "device-context", "device-batch", "timed-context", "timed-batch", "parts", "trust",
    },
    "sampled": {"measured"},
    "gemma-2-and-3": set(),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_there_where_its_numbers_are(report, name):
    kinds = (
        "predicted",
        "measured",
        "device-context",
        "device-batch",
        "timed-context",
        "timed-batch",
        "parts",
        "trust",
    )
    drawn = figures(report(name))
    assert {k for k in kinds if any(re.match(rf"{k}(-|$)", f) for f in drawn)} == PICTURES[name]
    assert all(variants for variants in drawn.values())


def test_an_older_run_says_nothing_new(run_folder, tmp_path):
    """Rows without any of the newer columns: no prediction, no source, no kernels, and nothing empty in their place."""
    old = render(without(run_folder("fast_heads"), tmp_path / "old", *NEW))
    said = card(old, "Measured, beside the bound on that device")
    assert "All points were measured, on NVIDIA H200 SXM 141GB, bf16, fast" in said
    assert not re.search(r"predict|extrapolat|composed|Kernels|Residual|Layers timed|reads", said)
    assert re.search(r"\d\d % of the bound", json.dumps(figures(old)["measured-decode-8192-b1"]))


# ---------------------------------------------------------------- extrapolated is not measured


def test_extrapolated_is_nowhere_called_measured(report):
    said = section(report("sampled"), "latency")
    assert not re.search(r"(?<!not )(?<!Nothing was )measured", said, re.IGNORECASE)
    assert "Extrapolated, beside the bound on that device extrapolated bound" in said
    assert "were extrapolated, on NVIDIA H200" in said
    assert "taken on to all; not checked against the whole model" in said
    assert "How fast can it be at best, and how fast should it be?" in said
    assert "Nothing was measured in this run." in said
    hovers = json.dumps([f for name, f in figures(report("sampled")).items() if name.startswith("measured-")])
    assert "measured" not in hovers.replace("of what was measured", "") and "extrapolated" in hovers


def test_of_one_kind_each_column_and_each_row(report, run_folder):
    """A run with both: the column of what was measured has no number of a point that was extrapolated."""
    points = cast(load_run(run_folder("fast_heads")))
    table = times.times(points)
    last = next(r for r in table.rows if r.head == "n_kv_heads 16")
    first = next(r for r in table.rows if r.head == "n_kv_heads 1")
    kinds = {tag: [i for i, c in enumerate(table.columns) if c.tag == tag] for tag in ("measured", "extrapolated")}
    assert {last.cells[i].text for i in kinds["measured"]} == {"not measured"}
    assert {first.cells[i].text for i in kinds["extrapolated"]} == {"not extrapolated"}
    assert len(kinds["measured"]) == len(kinds["extrapolated"]) == 4
    said = card(report("fast_heads"), "Measured and extrapolated")
    assert "Four points of 5 (n_kv_heads 1, n_kv_heads 2, n_kv_heads 4 and n_kv_heads 8) were measured" in said
    assert "one point of 5 (n_kv_heads 16) was extrapolated" in said
    assert "off by up to 4.1 % against the whole model" in said
    assert "A time that was taken on has no whiskers." in said and "Warnings: clocks fell by 4 %" in said
    assert "Four measured times are that of a few layers, taken on to all and checked against the whole model" in said


def test_it_is_drawn_hollow_and_in_a_colour_of_its_own(report):
    drawn = figures(report("fast_heads"))["measured-decode-8192-b1"][""]["data"]
    marked = {tuple(t["y"]): t["marker"] for t in drawn if t.get("error_x")}
    full, ring = marked["p0", "p1", "p2", "p3"], marked[("p4",)]
    assert full["color"] != ring["color"] and full["color"] != ring["line"]["color"]
    assert ring["color"] == full["line"]["color"]  # filled with the card


# ---------------------------------------------------------------- predictions


def test_errors_are_those_of_the_rows(report, run_folder):
    rows = pd.read_parquet(run_folder("fast_heads") / "measured.parquet")
    rows = rows[rows.source == "measured"]
    errors = (rows.predicted_s / rows.median_s - 1).abs()
    said = card(report("fast_heads"), "May the prediction be trusted?")
    assert (
        f"Over {len(rows)} measured times the prediction is off by {median(errors) * 100:.1f} % in the median" in said
    )
    assert f"at the worst by {errors.max() * 100:.1f} % (n_kv_heads" in said
    assert "left out of the calibration, predictions were off by 3.4 % in the median and within 8.1 % for nine" in said
    assert "The held-out error is the one to trust" in said
    assert "Four extrapolated times are left out: they are not measured." in said


def test_a_prediction_without_a_held_out_error_says_so(run_folder, tmp_path):
    errors = ("predicted_error_median", "predicted_error_p90")
    page = render(without(run_folder("fast_heads"), tmp_path / "run", *errors))
    said = card(page, "May the prediction be trusted?")
    assert "The calibration notes no held-out error" in said and "The held-out error is the one" not in said


def test_axes_of_measured_and_predicted_are_equal(run_folder):
    points = cast(load_run(run_folder("fast_heads")))
    drawn = measured_predicted.card(points).figures[0].variants[""]
    assert drawn["layout"]["xaxis"]["range"] == drawn["layout"]["yaxis"]["range"] and drawn["hints"]["square"]
    shapes = {t["marker"]["symbol"] for t in drawn["data"] if t["mode"] == "markers"}
    assert shapes == {"circle", "diamond"}


def test_predictions_stand_under_their_device_with_their_error(report):
    said = card(report("fast_heads"), "All times")
    assert "NVIDIA H200 SXM 141GB, held-out error 3.4 % predicted" in said
    assert "GeForce RTX 4090, held-out" not in said
    assert "predictions were off by 3.4 % in the median" in said
    assert "decode_predicted_s chat-8k h200-sxm bf16" in report("fast_heads").read_text()


def test_parts_are_the_whole(run_folder):
    """What no part has is a part of its own; the total is the prediction."""
    points = cast(load_run(run_folder("fast_heads")))
    row = next(r for r in points.run.measured_rows if r["phase"] == "decode")
    found = time_by_part.parts(row)
    assert sum(found.values()) == pytest.approx(row["predicted_s"])
    assert found["rest"] == pytest.approx(0.04 * row["predicted_s"])
    assert not {"", "bound", "error_median"} & set(found)
    at = points.run.row(row["point"], hardware="h200-sxm")
    assert sum(time_by_part.parts(at, "prefill").values()) == pytest.approx(at["prefill_predicted_s"])
    assert time_by_part.parts(points.run.row(row["point"], hardware="rtx-4090"), "decode") == {}


def test_only_calibrated_devices_can_be_chosen(report):
    said = card(report("fast_heads"), "Predicted time by part")
    assert "8k tokens 32k tokens" in said and "GeForce RTX 4090" not in said


def test_what_is_drawn_against_an_axis(report):
    """The predicted panel is where the device is calibrated, the bound where it is not."""
    said = section(report("fast_heads"), "effect")
    assert "calculated bound predicted" in said and "predictions were off by 3.4 %" in said


# ---------------------------------------------------------------- growth


def test_growth_is_that_of_the_rows(report, run_folder):
    rows = pd.read_parquet(run_folder("batch_context") / "measured.parquet").set_index(["phase", "batch", "context"])
    grown = [rows.median_s["decode", b, 2048] / rows.median_s["decode", b, 128] for b in (1, 4)]
    said = card(report("batch_context"), "Time against context")
    assert f"a decode step takes {min(grown):.2f} to {max(grown):.2f} times as long" in said
    assert "One time could not be taken" in said
    assert "2 s of the time budget are left" in section(report("batch_context"), "refused")


def test_one_point_at_many_workloads_has_a_row_for_each(run_folder):
    points = cast(load_run(run_folder("batch_context")))
    panels, switches = timed.panels(points, timed.timings(points))
    assert [p.title for p in panels] == ["Decode, one step", "Prefill"] and switches == ()
    names = [point.tag for point, _ in panels[0].states[""]]
    assert names == ["128 tokens", "512 tokens", "2k tokens", "4 × 128 tokens", "4 × 512 tokens", "4 × 2k tokens"]
    keys = [point.key for point, _ in panels[0].states[""]]
    assert len(set(keys)) == 6 and {int(re.match(r"p(\d+)-", k)[1]) for k in keys} == {panels[0].states[""][0][0].index}


def test_many_points_at_many_workloads_choose_among_these(tmp_path):
    plan = replace(runs.FAST, timed=replace(runs.FAST.timed, at=[(1, 512), (1, 2048), (8, 512)]))
    points = cast(load_run(runs.write(tmp_path / "run", plan)))
    panels, (at,) = timed.panels(points, timed.timings(points))
    assert len(panels) == 2 and [label for _, label in at.options] == ["512 tokens", "8 × 512 tokens", "2k tokens"]
    assert set(panels[0].states) == {key for key, _ in at.options} and at.chosen in panels[0].states
    assert [c.title for c in latency_scaling.timed_cards(points)] == ["Time against context", "Time against batch"]


def test_what_a_device_cannot_hold_is_marked_and_not_spoken_of(report, run_folder):
    """8 sequences of 32k tokens are more than a GeForce RTX 4090 has; nothing is said of how they grow."""
    points = cast(load_run(run_folder("batch_context")))
    context, _ = latency_scaling.device_cards(points)
    rows = {(r.cells[0].text, r.cells[1].text, r.cells[2].text): r.cells[3:] for r in context.numbers.rows}
    assert [c.mark for c in rows["decode", "8", "NVIDIA H200 SXM 141GB"]] == ["", "", ""]
    assert rows["decode", "8", "GeForce RTX 4090"][-1].mark == "‡"
    assert any("4 of 6 on GeForce RTX 4090" in note for note in context.notes)
    assert context.caption.startswith(
        "On NVIDIA H200 SXM 141GB, at 32k tokens instead of 2k, a decode step is expected"
    )


def test_a_cpu_times_every_combination_of_the_workload_axes():
    _, study = load_study("batch_context")
    small = cpu_study(study)
    works = study_workloads(small)
    sizes = {(w.context, w.batch) for w in works.values()}
    assert len(works) == len(sizes) == len(small.grid["workload.context"]) * len(small.grid["workload.batch"])
    name, first = next(iter(works.items()))
    assert name == f"short-512 context={first.context} batch={first.batch}"
    assert list(study_points(small)) == ["gemma-3-270m"]


def test_no_growth_from_a_single_workload(run_folder):
    points = cast(load_run(run_folder("attention_heads")))
    assert latency_scaling.timed_cards(points) == [] == latency_scaling.device_cards(points)


# ---------------------------------------------------------------- small things


def test_times_of_an_axis():
    assert [tick(x) for x in (2e-6, 5e-4, 0.02, 0.2, 1, 10)] == ["2 us", "500 us", "20 ms", "200 ms", "1 s", "10 s"]
    assert not time_axis([0.004, 0.005]).log and time_axis([0.004, 0.4]).log
    assert time_axis([0.004, 0.005]).of(0.005) == 5 and time_axis([0.004, 0.4]).of(0.4) == 0.4


def test_the_spread_of_held_out_errors():
    assert trust.off([{"predicted_error_median": x} for x in (0.06, 0.034, None)]) == "3.4 % to 6.0 %"
    assert trust.off([{}]) == ""


def test_hover_texts_hold_no_markup_of_others(report):
    texts = re.findall(r'"hovertext": (\[.*?\]|".*?")', json.dumps(figures(report("hostile_times"))))
    assert texts and not [t for t in texts if re.search(r"<(?!/?b>|br>)", t)]
    page = report("hostile_times").read_text()
    assert "onerror=alert(6)>" not in page and "<script>alert(5)" not in page


# ---------------------------------------------------------------- in a browser


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast_heads", "batch_context"])
def test_every_choice_has_its_picture(visit, name):
    page = visit(name)
    for button in page.locator("#latency .switch button").all():
        button.click()
        assert page.locator("#latency .plot.empty").count() == 0
    for menu in page.locator("#latency .switch select").all():
        for option in menu.locator("option").all():
            menu.select_option(option.get_attribute("value"))
            assert page.locator("#latency .plot.empty").count() == 0


@pytest.mark.slow
def test_equal_axes_are_as_long(visit):
    page = visit("fast_heads", width=400)
    for width in (400, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_selector(f'body[data-width="{width}"]')
        sides = page.evaluate("""() => { const box = document.querySelector('[data-fig=trust]')._fullLayout;
            return [box.xaxis._length, box.yaxis._length]; }""")
        assert sides[0] == pytest.approx(sides[1], abs=1) and sides[0] > 200


@pytest.mark.slow
def test_the_filter_takes_rows_and_marks(visit):
    page = visit("fast_heads")
    rows = "document.querySelector('[data-fig=measured-decode-8192-b1]').layout.yaxis.categoryarray.length"
    dots = """document.querySelector('[data-fig=trust]').data
        .filter(t => t.mode === 'markers' && t.visible !== false).length"""
    assert (page.evaluate(rows), page.evaluate(dots)) == (5, 16)
    page.locator("#pills").get_by_role("button", name="n_kv_heads 2", exact=True).click()
    settled(page)
    assert (page.evaluate(rows), page.evaluate(dots)) == (4, 12)


@pytest.mark.slow
def test_shares_add_up(visit):
    page = visit("batch_context")
    page.get_by_role("button", name="share of the prediction").click()
    totals = page.evaluate("""() => {
        const bars = document.querySelector('[data-fig=parts-decode]').data.filter(t => t.type === 'bar');
        return bars[0].y.map((_, i) => bars.reduce((sum, bar) => sum + bar.x[i], 0));
    }""")
    assert totals and all(99 < total < 100.01 for total in totals)
