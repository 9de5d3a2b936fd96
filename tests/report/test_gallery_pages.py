"""A gallery of runs: pages that share one library, an index made from their numbers, the family and its claims."""

import gzip
import json
import re
import shutil
from importlib.resources import files

import pandas as pd
import pytest

import archlab
from archlab.report import load_run, render
from archlab.report.gallery import gallery
from archlab.report.page import PLOTLY, SHARED_PLOTLY, heading
from archlab.report.points import cast
from archlab.report.sketch import sketch
from archlab.sweep.compare import write_models
from archlab.sweep.family import family, write_family

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "א‮ב" * 5, "x" * 300)
MODELS = ("gemma-2-2b", "gemma-3-1b", "gemma-3-4b-text")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery of a comparison, the same under hostile names, the family, and a measured device."""
    root = tmp_path_factory.mktemp("reports")
    specs = [archlab.load(name) for name in MODELS]
    write_models(specs, ["chat-8k", "long-128k"], ["l4"], "bf16", root / "three", ["compare", *MODELS])
    shutil.copytree(root / "three", root / "hostile")
    _renamed(root / "hostile")
    write_family(root / "gemma", "python -m archlab.sweep.family reports/gemma")
    record = {"device": HOSTILE[0], "dtype": "fp32", "status": "ok", "utc": "2026-11-27T17:04:07+00:00"}
    (root / "measured" / "chip").mkdir(parents=True)
    (root / "measured" / "chip" / "latency.jsonl").write_text(json.dumps(record) + "\n")
    gallery(root)
    return root


def _renamed(folder):
    """Models and questions that are markup, in run.json and in each table."""
    names = dict(zip(MODELS, (HOSTILE[0], *HOSTILE[2:]), strict=True))
    text = (folder / "run.json").read_text()
    for old, new in names.items():
        text = text.replace(json.dumps(old), json.dumps(new))
    meta = json.loads(text)
    (folder / "run.json").write_text(json.dumps(meta | {"name": HOSTILE[0], "question": HOSTILE[1]}))
    for path in folder.glob("*.parquet"):
        frame = pd.read_parquet(path)
        frame.replace(names).to_parquet(path)


def page(folder, name):
    return (folder / name / "index.html").read_text()


def test_pages_share_the_library_and_one_report_has_it_inside(made, tmp_path):
    shared = page(made, "three")
    assert f'data-src="../assets/{SHARED_PLOTLY}"' in shared and len(shared) < 500_000
    packed = (files("archlab.report") / "vendor" / PLOTLY).read_bytes()
    assert (made / "assets" / SHARED_PLOTLY).read_bytes() == gzip.decompress(packed)
    assert "MIT" in (made / "assets" / "LICENSE-plotly.txt").read_text()
    alone = render(made / "three", tmp_path / "x.html").read_text()
    assert "data-src" not in alone and "../" not in alone and len(alone) > len(shared) + len(packed)


def test_the_index_says_what_the_reports_say(made):
    index = re.sub(r"<[^>]*>", "", (made / "index.html").read_text()).replace("\xa0", " ")
    for name in ("three", "gemma"):
        said = heading(cast(load_run(made / name)))[0]
        assert said.replace("\xa0", " ") in index
    assert "Two studies" in index and "six models on one device" in index
    assert "one record" in index and "Gemma explained by numbers" in index
    assert '<a href="explorer/' not in (made / "index.html").read_text()


def test_links_are_relative_and_there(made):
    found = re.findall(r'<a href="([^"#]+)"', (made / "index.html").read_text())
    assert len(found) == 4 and all((made / link).is_file() for link in found)


def test_an_explorer_is_linked_where_it_is(made, tmp_path):
    shutil.copytree(made / "three", tmp_path / "three")
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "index.html").write_text("<p>here</p>")
    assert 'href="explorer/index.html"' in gallery(tmp_path).read_text()


def test_hostile_names_are_text(made):
    for text in ((made / "index.html").read_text(), page(made, "hostile")):
        assert "alert(1)&lt;/script&gt;" in text and "x" * 300 in text
        assert "<script>alert" not in text and "<img" not in text


def test_the_small_picture_has_the_numbers_of_the_run(made):
    """Bars as long as the caches that one layer's arithmetic gives."""
    drawn = sketch(cast(load_run(made / "gemma")))
    widths = [float(w) for w in re.findall(r'class="stick"[^>]*width="([\d.]+)"', drawn.svg)]
    assert len(widths) == len(family()["generations"])
    first, third = 2 * 16 * 256 * 28 * 2 * 131072, 2 * 8 * 256 * 2 * (21 * 131072 + 21 * 4096)  # gemma-7b, gemma-2-9b
    assert widths[0] / widths[2] == pytest.approx(first / third, rel=2e-3)
    assert "56.00 GiB" in drawn.svg and "21.66 GiB" in drawn.svg


def test_one_bad_run_and_no_page_is_written(made, archlab_command, tmp_path):
    for name in ("good", "worse"):
        shutil.copytree(made / "three", tmp_path / "gal" / name, ignore=shutil.ignore_patterns("index.html"))
    (tmp_path / "gal" / "worse" / "points.parquet").write_bytes(b"no parquet")
    done = archlab_command("report", "--all", "gal")
    assert done.code == 2 and "'gal/worse/points.parquet' cannot be read" in done.err
    assert not list(tmp_path.rglob("*.html")) and not (tmp_path / "gal" / "assets").exists()


def test_a_run_in_place_of_a_folder_of_runs(made, archlab_command):
    done = archlab_command("report", "--all", str(made / "three"))
    assert done.code == 2 and "is one run" in done.err


def test_the_command_writes_the_same_bytes_again(made, tmp_path, archlab_command):
    shutil.copytree(made / "three", tmp_path / "reports" / "three")
    done = archlab_command("report", "--all")
    assert done.code == 0 and done.out == "reports/index.html\n" and "one report " in done.err
    assert (tmp_path / "reports" / "three" / "index.html").read_bytes() == (made / "three" / "index.html").read_bytes()
    document = json.loads(archlab_command("report", "--all", "--json").out)
    assert document == {"report": "reports/index.html", "pages": ["reports/three/index.html"]}


def test_the_path_alone_is_on_stdout(made, archlab_command):
    done = archlab_command("report", str(made / "three"), "-o", "x.html")
    assert done.out == "x.html\n" and "three models" in done.err and "sha256" in done.err


def test_a_line_that_is_no_json_is_named(made, tmp_path):
    shutil.copytree(made / "three", tmp_path / "three")
    (tmp_path / "measured" / "chip").mkdir(parents=True)
    (tmp_path / "measured" / "chip" / "latency.jsonl").write_text("{")
    with pytest.raises(archlab.errors.ArchlabError, match=r"latency.jsonl', line 1, cannot be read"):
        gallery(tmp_path)


# ---------------------------------------------------------------- the family


def test_every_generation_is_compared_with_models_that_came_before():
    seen = []
    for generation in family()["generations"]:
        assert generation["drawn"] in generation["models"]
        for new, old in generation.get("pairs", []):
            assert new in generation["models"] and old in seen
        seen += generation["models"]
    assert len(set(seen)) == len(seen)


def test_sentences_have_the_numbers_of_the_reports(made):
    """Gemma 1 and 2 by hand: layers x KV heads x head_dim of the reports' tables."""
    text = re.sub(r"<[^>]*>", "", page(made, "gemma")).replace("\xa0", " ")
    beyond = "(beyond what gemma-7b was trained for)"
    said = f"From Gemma 1 to Gemma 4, the KV cache at 128k tokens {beyond} falls from 56.00 GiB for gemma-7b to "
    assert said in text
    before, now = 2 * 2 * 16 * 256 * 28 * 131072, 2 * 2 * 8 * 256 * 21 * (131072 + 4096)
    far = f"{1 - now / before:.0%}".replace("%", " %")
    said = f"{far} smaller at 128k tokens (beyond the trained 8k): {now / 2**30:.2f} GiB there, not {before / 2**30:.2f} GiB"
    assert said in text
    assert "42 layers, not 28; 1 local : 1 global, not all global; window 4,096, not none" in text


PUBLISHED = {
    "ffn-width": [2_506_172_416, 2_506_172_416 + 3 * 2048 * 16384 * 18, 8_537_680_896, 8_537_680_896 + 3 * 3072 * 24576 * 28],
    "d-model": [524_550_144, 256_128 * 4096, 786_825_216, 256_128 * 4096],  # Gemma report, table 2
    "head-dim": [None, None, 2 * 2 * 16 * 256 * 28, 2 * 2 * 16 * 192 * 28, 2 * 2 * 16 * 128 * 62, 2 * 2 * 16 * 168 * 62],
    "rope": [0, None, 256_000 * 2048, None],
    "vocabulary-32k": [2_506_172_416, 2_506_172_416 - 224_000 * 2048],
    "vocabulary-256k": [256_000 * 2304, None, 301_989_888, 256_000 * 1152],  # 302M: Gemma 3 report, table 1
    "qk-norm": [0, 42, 42, None, 48, None, 0, None],
    "gemma-4-ratio": [4, 4, 5, 4, 5, 4, 5, 4, 5, 4],
    "context-128k": [32768, 131072, 32768, 131072, 131072, 131072, 131072, 131072, 131072, 131072],
    "gqa-seconds": [7000, 7],
}  # fmt: skip
"""Claim -> what its calculations give and what the claim would make of them: sizes of reports, products by hand."""


@pytest.fixture(scope="module")
def told(made):
    return {claim["id"]: claim for claim in json.loads((made / "gemma" / "run.json").read_text())["claims"]}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_claim_is_settled_by_the_published_numbers(name, told):
    found = [x for c in told[name]["calculations"] for x in (c["value"], c["claimed"])]
    wanted = PUBLISHED[name]
    assert len(found) == len(wanted)
    assert [f for f, w in zip(found, wanted, strict=True) if w is not None] == [w for w in wanted if w is not None]


def test_claims_about_the_whole_family_count_its_files(told):
    """Against the model files as they are written, without the blocks."""
    names = [m for g in family()["generations"] for m in g["models"]]
    data = [archlab.load(name).data for name in names]
    by_kind = {c["what"][:3]: c["value"] for c in told["attention-kind"]["calculations"]}
    heads = [[d["attention"] | d.get(kind, {}) for kind in {"local", "global"} & {*archlab.load(n).pattern}]
             for n, d in zip(names, data, strict=True)]  # fmt: skip
    assert by_kind["MHA"] == sum(any(h["n_heads"] == h.get("n_kv_heads", h["n_heads"]) for h in own) for own in heads)
    assert by_kind["MQA"] == sum(any(h.get("n_kv_heads") == 1 for h in own) for own in heads)
    assert told["activation"]["calculations"][0]["value"] == sum(d["mlp"]["activation"] == "gelu_tanh" for d in data)


def test_every_claim_is_on_the_page_with_its_source(made, told):
    text = page(made, "gemma")
    assert text.count('<article class="claim"') == len(told) == 16
    assert sum(bool(c["calculations"]) for c in told.values()) == 13
    assert all(c["cited"]["url"].startswith("https://") and c["cited"]["url"] in text for c in told.values())
