"""The context x batch map, the roofline and the curve of speed against throughput: their tables and their pictures."""

import math

import pandas as pd
import pytest

import archlab
from archlab.analyzers.latency import bound, latency
from archlab.analyzers.operations import operations
from archlab.config import load_serving
from archlab.hardware import load_hardware
from archlab.ledger import ledger
from archlab.precision import load_precision
from archlab.report import load_run, render
from archlab.report.charts import context_batch, roofline, speed_throughput
from archlab.report.points import cast
from archlab.sweep.compare import write_models
from archlab.sweep.served import of_models
from archlab.sweep.serving_map import BATCHES, MOST_MAPS
from archlab.sweep.serving_tables import serving_tables

MODELS = ["gemma-3-1b", "gemma-2-9b"]
HARDWARE, FORM = ["rtx-4090", "amd-epyc-2t"], "fp32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "served"
    write_models([archlab.load(name) for name in MODELS], ["chat-8k", "long-32k"], HARDWARE, FORM, out, ["compare"])
    return out


@pytest.fixture(scope="module")
def drawn(folder):
    return cast(load_run(folder))


@pytest.fixture(scope="module")
def batches(folder):
    return pd.read_parquet(folder / "batches.parquet")


def variants(card):
    return card.figures[0].variants


# ---------------------------------------------------------------- the tables


def test_a_cell_is_what_fit_and_memory_say_of_it(batches):
    for row in batches.sample(40, random_state=7).to_dict("records"):
        spec, place = archlab.load(row["point"]), (row["hardware"], row["precision"], row["engine"])
        work = archlab.Workload(int(row["batch"]), new=int(row["context"]), logits="last")
        found = archlab.memory(spec, work, *place)
        assert (row["memory_bytes"], row["memory_budget_bytes"]) == (found.needed, found.budget)
        assert row["fits"] == found.fits == (row["batch"] <= row["max_batch"])
    for row in batches.drop_duplicates(["point", "hardware"]).to_dict("records"):
        place = row["hardware"], row["precision"], row["batch"], row["context"], row["engine"]
        assert row["max_batch"] == archlab.fit(archlab.load(row["point"]), *place).max_batch


def test_times_are_those_of_one_step(batches):
    for row in batches.sample(12, random_state=3).to_dict("records"):
        work = archlab.Workload(int(row["batch"]), new=1, context=int(row["context"]), logits="last")
        found = latency(archlab.load(row["point"]), work, row["hardware"], FORM)
        assert row["decode_bound_s"] == pytest.approx(found.bound_seconds)
        if found.source == "predicted":
            assert row["decode_predicted_s"] == pytest.approx(found.seconds)
    predicted = batches.groupby("hardware")["decode_predicted_s"].count()
    assert predicted["amd-epyc-2t"] and not predicted["rtx-4090"]


def test_a_context_has_its_largest_batch(batches):
    for (_, _, _), rows in batches.groupby(["point", "hardware", "context"]):
        most = rows["max_batch"].iloc[0]
        assert set(BATCHES) <= set(rows["batch"])
        assert max(rows.loc[rows["fits"], "batch"], default=0) == min(most, BATCHES[-1])


@pytest.mark.parametrize(
    "model", ["gemma-3-1b", "gemma-3n-e2b", "gemma-4-26b-a4b", "recurrentgemma-2b", "t5gemma-2b-2b"]
)
@pytest.mark.parametrize("workload", ["chat-8k", "serve-8k-b32"])
def test_operations_add_up_to_the_bound(model, workload):
    spec, device, precision = archlab.load(model), load_hardware("h200-sxm"), load_precision("bf16")
    for work in (prefill := load_serving(workload).work_for(spec), prefill.decode()):
        rows = ledger(spec, work)
        found = operations(rows, device, precision)
        assert len({x.name for x in found}) == len(found)
        assert sum(x.seconds for x in found) == pytest.approx(bound(rows, device, precision).seconds)
        assert sum(x.flops for x in found) == archlab.flops(spec, work).total


def test_operations_of_the_run(folder):
    table = pd.read_parquet(folder / "operations.parquet")
    points = pd.read_parquet(folder / "points.parquet").set_index(["point", "hardware", "workload"])
    for (point, hardware, workload, phase), rows in table.groupby(["point", "hardware", "workload", "phase"]):
        said = points.loc[(point, hardware, workload), f"{phase}_bound_s"]
        whole = rows[rows["operation"] == "step"].set_index("batch")
        assert rows.loc[rows["operation"] != "step", "bound_s"].sum() == pytest.approx(said)
        assert whole.loc[1, "bound_s"] == pytest.approx(said)
    work = load_serving("chat-8k").work_for(archlab.load("gemma-3-1b"))
    step = table.query("point == 'gemma-3-1b' and workload == 'chat-8k' and operation == 'step' and batch == 64")
    for row in step.to_dict("records"):
        found = latency(archlab.load("gemma-3-1b"), work.resized(64, 8192).decode(), row["hardware"], FORM)
        assert row["bound_s"] == pytest.approx(found.bound_seconds)


def test_of_many_points_and_places_a_few_have_pictures():
    names = archlab.models()[:8]
    hardware = ["t4", "l4", "rtx-4090", "h100-sxm", "h200-sxm", "b200"]
    served = of_models([archlab.load(name) for name in names], ["chat-8k"], hardware, "bf16")
    tables = serving_tables(served)
    wide = tables["batches"].groupby(["point", "hardware"])["context"].nunique()
    assert (wide > 2).sum() <= MOST_MAPS and len(served.places) == 3
    assert tables["operations"].groupby(["point", "hardware", "workload"]).ngroups <= 12


def test_a_device_without_a_rate_has_a_map_and_no_times():
    from archlab.analyzers.memory import setting
    from archlab.sweep.served import Place, Served

    place = Place("t4", "bf16", "ideal", setting("t4", "bf16", "ideal"))
    found = serving_tables(Served([{"gemma-3-1b": archlab.load("gemma-3-1b")}], [place], []))
    assert list(found) == ["batches"] and "decode_bound_s" not in found["batches"]


# ---------------------------------------------------------------- the pictures


def test_the_step_stands_where_the_largest_batch_does(drawn, batches):
    card = context_batch.card(drawn)
    for state, picture in variants(card).items():
        _, written, *steps = picture["data"]
        index, hardware = state.split("/")
        mine = batches[(batches["point"] == drawn.all[int(index)].name) & (batches["hardware"] == hardware)]
        most = mine.drop_duplicates("context").set_index("context")["max_batch"]
        if not steps:
            assert most.min() >= BATCHES[-1] or most.max() == 0
            continue
        heights = [y + 0.5 for y in steps[0]["y"][::2]]
        assert heights == [math.floor(math.log2(n)) + 1 if n else 0 for n in most.clip(upper=BATCHES[-1])]
        marks = [text.startswith("✕") for text in written["text"]]
        assert marks == [batch > n for batch in BATCHES for n in most]


def test_the_table_of_the_map_is_exact(drawn):
    table = context_batch.card(drawn).numbers
    heads = [column.key for column in table.columns]
    row = next(r for r in table.rows if r.head == "gemma-2-9b" and r.cells[0].value == "rtx-4090")
    value = row.cells[heads.index("max_batch at 4096")].value
    assert value == archlab.fit(archlab.load("gemma-2-9b"), "rtx-4090", FORM, context=4096).max_batch


def test_throughput_is_batch_over_time(drawn, batches):
    card = speed_throughput.card(drawn)
    assert card.tags == ("bound", "predicted")
    at = batches.set_index(["point", "hardware", "context", "batch"])
    state = "8192/amd-epyc-2t"
    curves = [t for t in variants(card)[state]["data"] if t.get("name")]
    assert curves
    for curve in curves:
        for x, y, text in zip(curve["x"], curve["y"], curve["hovertext"], strict=True):
            batch = round(x / y)
            seconds = at.loc[(curve["name"], "amd-epyc-2t", 8192, batch), "decode_predicted_s"]
            assert x == pytest.approx(batch / seconds, rel=1e-4) and y == pytest.approx(1 / seconds, rel=1e-4)
            assert "predicted" in text and "tok/s" in text


def test_a_curve_ends_where_memory_does(drawn, batches):
    for row in speed_throughput.card(drawn).numbers.rows:
        context, hardware = row.cells[0].value, row.cells[1].value
        most = archlab.fit(archlab.load(row.point.name), hardware, FORM, context=context).max_batch
        said = row.cells[3].text
        assert row.cells[3].value == min(most, BATCHES[-1])
        assert said == (
            "not even one fits" if not most else f"memory full at batch {most}" if most < 512 else "up to 512"
        )


def test_marks_lie_on_the_roofs_of_the_device(drawn):
    device = load_hardware("rtx-4090")
    peak, bandwidth = device.flops_per_s(FORM), device.bandwidth_bytes_per_s
    card = roofline.card(drawn)
    picture = variants(card)["0/chat-8k/rtx-4090"]
    roof, *traces = picture["data"]
    assert roof["x"][1] == pytest.approx(peak / bandwidth)
    for trace in traces:
        for x, y in zip(trace["x"], trace["y"], strict=True):
            assert y * 1e12 <= min(peak, x * bandwidth) * 1.0001
    labels = " ".join(note["text"] for note in picture["layout"]["annotations"])
    assert f"{peak / 1e12:.4g} TFLOP/s in {FORM}" in labels and f"{bandwidth / 1e9:,.4g} GB/s" in labels
    assert "q k v o" in labels and "MLP" in labels
    path = next(t for t in traces if "text" in t["mode"])
    assert len(path["x"]) == 9 and path["x"] == sorted(path["x"])


def test_an_older_run_has_no_frame_for_them(folder, tmp_path):
    for name in ("run.json", "points.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    text = render(tmp_path).read_text()
    assert not any(f'data-fig="{name}"' in text for name in ("context-batch", "roofline", "speed-throughput"))


def test_a_page_has_all_three_with_their_tables(folder, tmp_path):
    page = render(folder, tmp_path / "a.html")
    text = page.read_text()
    for name in ("context-batch", "roofline", "speed-throughput"):
        assert f'data-fig="{name}"' in text and f'id="{name}-numbers"' in text
    assert page.read_bytes() == render(folder, tmp_path / "b.html").read_bytes()
    assert page.stat().st_size < 1_000_000
