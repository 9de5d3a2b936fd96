"""The report without a browser: the same bytes, small, safe, true sentences, sound colours, clear refusals."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import runs
from conftest import HOSTILE

from archlab.errors import ArchlabError
from archlab.report import load_run, render
from archlab.report.headline import headline
from archlab.report.palette import CHROME, KINDS, PARTS, contrast, look, steps
from archlab.report.points import MOST, cast


@pytest.mark.parametrize("name", runs.PLANS)
def test_small(report, name):
    assert report(name).stat().st_size < 1_000_000


def test_same_bytes_wherever_the_run_lies(run_folder, tmp_path):
    first = render(run_folder("attention_heads"), tmp_path / "a.html").read_bytes()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run_folder("attention_heads"), elsewhere)
    assert render(elsewhere, tmp_path / "b.html").read_bytes() == first
    assert str(tmp_path).encode() not in first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html", "elsewhere"]  # nothing half written


def test_outside_text_is_escaped(report):
    text = report("hostile").read_text()
    for name in HOSTILE.values():
        assert name not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert len(re.findall("<script", text)) == 6  # theme, data, figures, raw, plotly, page


def test_no_address_in_the_page(report):
    """What could fetch, in the page itself; plotly.js lies packed and is held by the page's own policy."""
    text = report("attention_heads").read_text()
    assert not re.search(r'(?:src|href|action)="(?!#|data:)', text)
    assert "default-src 'none'" in text


def test_a_report_knows_nothing_but_the_folder():
    code = (
        "import sys, archlab.report.page; "
        "print([m for m in sys.modules if m.split('.')[0] == 'torch' or m.startswith('archlab.')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" not in loaded
    for part in ("presets", "blocks", "analyzers", "ledger", "spec"):
        assert f"archlab.{part}" not in loaded


def test_importing_the_package_is_free():
    code = "import sys, archlab.report; print('pandas' in sys.modules, 'plotly' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["False", "False"]


# ---------------------------------------------------------------- sentences

HEADLINES = {
    "attention_heads": "With n_kv_heads 1 instead of 8 at equal parameters, the KV cache of gemma-2-9b falls to 1/8 and "
    "the bound on a decode step by 8.9 % at 8k tokens and 49 % at 128k tokens (beyond the trained 8k)",
    "gemma-2-and-3": "At 128k tokens (beyond what gemma-2-27b was trained for) the KV cache of gemma-3-27b-text is 56 % "
    "smaller than that of gemma-2-27b, a model of its size",
    "window": "With window 256 instead of 512, the KV cache of gemma-3-1b falls by 42 % at 512 tokens",
    "window_and_pattern": "With window 512, pattern local*7 global, the KV cache at 128k tokens (beyond what gemma-2-9b "
    "was trained for) is 76 % smaller than the released for gemma-2-9b and 26 % smaller for gemma-3-12b-text",
    "fit_matrix": "With 32k tokens in q4_k_m (beyond what gemma-2-9b was trained for), the largest model that fits is "
    "gemma-2-9b on Apple M4, 16 GB and gemma-3-27b-text from GeForce RTX 4090 up",
    "batch_context": "At 32k tokens instead of 2k, the prediction for a decode step of gemma-3-12b-text on NVIDIA H200 "
    "SXM 141GB is 1.08 times as high with batch 1 and 1.6 times with batch 8",
    "vocab": "With vocab_size 32,000, the parameters are 27 % fewer than the released for gemma-3-1b and 15 % fewer for "
    "gemma-3-4b-text",
}  # fmt: skip


@pytest.mark.parametrize("name", HEADLINES)
def test_headline(run_folder, name):
    assert headline(cast(load_run(run_folder(name)))) == HEADLINES[name]


def test_what_cannot_be_said_is_not_said(tmp_path):
    """One point that stands, one refused; a study in which all are refused."""
    alone = runs.Plan("heads", "study", ["gemma-2-9b"], axes={"model.attention.n_kv_heads": [8, 3]})
    one = cast(load_run(runs.write(tmp_path / "one", alone)))
    assert (
        headline(one)
        == "gemma-2-9b with n_kv_heads 8 keeps 21.66 GiB of KV cache at 128k tokens (beyond the trained 8k)"
    )
    points = runs.write(tmp_path / "none", alone)
    frame = pd.read_parquet(points / "points.parquet")
    frame[frame.status != "ok"].to_parquet(points / "points.parquet")
    assert headline(cast(load_run(points))) == "No point of heads could be computed"
    assert "multiple of n_kv_heads" in render(points).read_text()


def test_a_large_run_is_sampled_and_says_so(tmp_path):
    grid = {"model.local.window": [2**i for i in range(5, 14)], "model.attention.n_kv_heads": [1, 2, 4, 8, 16]}
    plan = runs.Plan("grid", "study", ["gemma-2-9b"], axes=grid, workloads=["chat-8k"], hardware=[])
    run = load_run(runs.write(tmp_path / "grid", plan))
    shown = cast(run)
    assert len(shown.all) == MOST < len(run.rows) == 45
    assert [p.values["model.attention.n_kv_heads"] for p in shown.all if p.released] == [8]
    assert "5 more are in the downloads alone" in render(run.folder).read_text()


def test_refusals_of_one_device_say_where(report):
    text = report("all_devices").read_text()
    assert re.search(r"<td[^>]*>NVIDIA T4 16GB</td>\s*<td[^>]*>t4 has no bf16 rate", text)


def test_what_fits_is_an_estimate_and_says_so(report):
    text = report("fit_matrix").read_text()
    card = re.search(r'<div class="card" id="fit-1">.*?</h3>(.*?)<p>', text, re.DOTALL)[1]
    assert re.findall("tag [a-z]+", card) == ["tag calculated", "tag estimate"]
    assert "Memory by part" in text and "what the process takes besides" in text


def test_a_bound_is_not_called_a_forecast(report):
    text = report("attention_heads").read_text().split("<body")[1].split('id="data"')[0]
    assert not re.search(r"predict|forecast|extrapolat", text)
    assert "estimate" not in re.search(r'<section id="latency".*?</section>', text, re.DOTALL)[0]


# ---------------------------------------------------------------- colours


def test_contrast():
    for i in (0, 1):
        page, card = CHROME["page"][i], CHROME["card"][i]
        assert all(contrast(CHROME[name][i], page) >= 4.5 for name in ("ink", "ink2", "ink3", "accent"))
        assert contrast(CHROME["ink"][i], CHROME["bar"][i]) >= 4.5
        for tag in ("bound", "measured", "no", "estimate", "predicted", "extrapolated"):
            assert contrast(CHROME[tag][i], CHROME[f"{tag}-wash"][i]) >= 4.5
        looks = [look(hue, 0, shade / 4) for hue in range(4) for shade in range(5)]
        assert min(contrast(x.line[i], card) for x in looks) >= 3
        assert min(contrast(x.text[i], card) for x in looks) >= 4.5
        marks = [CHROME[name][i] for name in ("limit", "measured", "predicted", "extrapolated")]
        assert min(contrast(mark, card) for mark in marks) >= 3


def test_a_light_colour_has_one_twin():
    pairs = [*CHROME.values(), *PARTS.values(), *KINDS.values(), *steps().values()]
    assert len({light.lower() for light, _ in pairs}) == len({(a.lower(), b.lower()) for a, b in pairs})


# ---------------------------------------------------------------- refusals


def _break(folder, how):
    run = folder / "run.json"
    meta = json.loads(run.read_text())
    if how == "no run.json":
        run.unlink()
    elif how == "not JSON":
        run.write_text("{")
    elif how == "no points":
        (folder / "points.parquet").unlink()
    elif how == "not parquet":
        (folder / "curves.parquet").write_bytes(b"PAR1 no")
    else:
        key, value = how.split("=", 1)
        run.write_text(json.dumps(meta | {key: json.loads(value)}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no run.json", "has no run.json"),
        ("not JSON", "cannot be read as JSON"),
        ("no points", "holds no points"),
        ("not parquet", "cannot be read as parquet"),
        ("schema=2", "newer archlab"),
        ("schema=null", "names no schema"),
        ('kind="party"', "must be study or compare"),
        ("axes={}", "axes must be a list"),
        ('axes=[{"key": "model.d_ff", "values": [1]}]', "lacks the column 'model.d_ff'"),
    ],
)
def test_a_broken_run_is_one_sentence(run_folder, tmp_path, how, says):
    folder = tmp_path / "run"
    shutil.copytree(run_folder("window"), folder)
    _break(folder, how)
    with pytest.raises(ArchlabError, match=re.escape(says)) as raised:
        load_run(folder)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ArchlabError, match="there is no run folder"):
        load_run(tmp_path / "nowhere")


def test_a_page_that_cannot_be_written(run_folder, tmp_path):
    with pytest.raises(ArchlabError, match="cannot be written"):
        render(run_folder("window"), tmp_path / "no" / "where.html")
