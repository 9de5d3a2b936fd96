"""A gallery in a browser: its index, the pages that share a library, and all that a page keeps in its address."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from drawn import settled
from test_report_page import CLIPPED, STRUCTURE, _axe

from archlab.report.gallery import gallery

COMMITTED = Path(__file__).parents[2] / "reports"
PAGES = sorted(p.parent.name for p in COMMITTED.glob("*/run.json"))
BOUNDS = ".card:has([data-fig=bound-decode])"
RUNS = ("attention_heads", "fit_matrix", "hostile")


@pytest.fixture(scope="session")
def reports(run_folder, tmp_path_factory):
    """A gallery of three runs, one of them with names of markup; a measured device."""
    root = tmp_path_factory.mktemp("gallery")
    for name in RUNS:
        shutil.copytree(run_folder(name), root / name, ignore=shutil.ignore_patterns("report.html"))
    (root / "measured" / "chip").mkdir(parents=True)
    record = {"device": "<b>chip</b>", "dtype": "fp32", "utc": "2026-11-27T17:04:07+00:00"}
    (root / "measured" / "chip" / "latency.jsonl").write_text(json.dumps(record) + "\n")
    gallery(root)
    return root


@pytest.fixture
def opened(browser, complaints):
    """opened(path, width=400, theme="dark", at="#latency") -> the page, drawn. Offline, and within its folder."""
    contexts = []

    def go(path, width=1400, theme="light", at=""):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, color_scheme=theme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        complaints.watch(page)
        root = (path.parent if path.parent.joinpath("assets").is_dir() else path.parent.parent).as_uri()
        away = lambda r: r.url.startswith("file:") and not r.url.startswith(root)  # noqa: E731
        page.on("request", lambda r: complaints.append(r.url) if away(r) else None)
        page.on("requestfailed", lambda r: complaints.append(f"failed: {r.url}"))
        page.goto(path.as_uri() + at)
        page.wait_for_selector('body[data-ready="1"]', timeout=30_000)
        return settled(page) if page.locator(".plot").count() else page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []


def narrowed(page):
    """No sideways scroll at any width."""
    for width in (1400, 768, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_selector(f'body:not([data-width]), body[data-width="{width}"]')  # pictures are drawn anew
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def violations(page):
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.add_script_tag(content=_axe().read_text())
    found = page.evaluate("axe.run({exclude: [['.svg-container']]}).then(r => r.violations)")
    return [(v["id"], v["nodes"][0]["html"][:120]) for v in found]


# ---------------------------------------------------------------- the index


def test_the_index_is_quiet_and_whole_at_each_width(opened, reports):
    page = opened(reports / "index.html")
    assert page.locator(".study").count() == len(RUNS) + 1
    assert page.evaluate(STRUCTURE) == []
    assert page.locator("main img, main b:not(.study b)").count() == 0
    assert "<script>alert(1)</script>" in page.locator("#model").inner_text()
    narrowed(page)


@pytest.mark.slow
def test_subject_and_model_live_in_the_address(opened, reports):
    page = opened(reports / "index.html")
    page.get_by_role("button", name="Attention and its cache").click()
    assert page.locator(".study[data-models]:visible").count() == 1
    page.locator("#model").select_option("gemma-3-27b-text")
    assert page.locator("#none").is_visible()
    address = page.evaluate("location.hash")
    again = opened(reports / "index.html", at=address)
    assert again.locator("#model").input_value() == "gemma-3-27b-text" and again.locator("#none").is_visible()
    again.locator("#none button").click()
    assert again.evaluate("location.hash") == "" and again.locator(".study:visible").count() == len(RUNS) + 1


@pytest.mark.slow
def test_a_card_leads_to_its_report_and_back(opened, reports):
    page = opened(reports / "index.html")
    page.locator(".study", has_text="attention_heads").locator("h3 a").press("Enter")
    page.wait_for_selector('body[data-ready="1"] .plot svg.main-svg')
    page.get_by_role("link", name="all reports").click()
    page.wait_for_url("**/index.html")
    assert page.locator(".gallery").count() == 1


@pytest.mark.slow
def test_themes_of_the_index(opened, reports):
    page = opened(reports / "index.html")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert opened(reports / "index.html", at="#?theme=dark").locator("#theme").inner_text() == "Light"


@pytest.mark.skipif(_axe() is None, reason="axe-core is not here (pip install axe-playwright-python, or set AXE_JS)")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_on_the_index(opened, reports, theme):
    assert violations(opened(reports / "index.html", theme=theme)) == []


# ---------------------------------------------------------------- a page that shares the library


@pytest.mark.slow
def test_a_page_is_drawn_from_the_library_beside_it(opened, reports):
    page = opened(reports / "attention_heads" / "index.html")
    assert page.locator(".plot:has(svg.main-svg)").count() == page.locator(".plot").count() >= 3
    assert page.evaluate(CLIPPED) == []
    assert "beside the page only the drawing library" in page.locator("footer").inner_text()


def test_without_the_library_the_tables_are_there(opened, reports, tmp_path, complaints):
    shutil.copytree(reports / "attention_heads", tmp_path / "alone")
    page = opened(tmp_path / "alone" / "index.html")
    assert "cannot be drawn here" in page.locator(".plot").first.inner_text()
    assert page.locator("#parameters details[open]").count() == 1
    page.locator("#points thead button").first.click()
    assert page.locator("#points th[aria-sort]:not([aria-sort=none])").count() == 1
    complaints.clear()  # the file that is missing is named, as it should be


@pytest.mark.slow
def test_all_that_was_chosen_is_in_the_address(opened, reports):
    """Filter, switches, menus, the order of tables and the theme, restored by a link alone."""
    path = reports / "attention_heads" / "index.html"
    page = opened(path)
    page.get_by_role("button", name="n_kv_heads 16").click()
    other = page.locator(f"{BOUNDS} .switch button[aria-pressed=false]").first.inner_text()
    page.locator(BOUNDS).get_by_role("button", name=other, exact=True).click()
    page.locator("#points thead th").nth(2).get_by_role("button").click()
    page.get_by_role("button", name="Dark").click()
    page.locator(".contents a", has_text="Latency").click()
    address = page.evaluate("location.hash")
    assert address.startswith("#latency?") and all(f"{key}=" in address for key in ("hide", "show", "sort", "theme"))

    again = opened(path, at=address)
    assert again.get_by_role("button", name="n_kv_heads 16").get_attribute("aria-pressed") == "false"
    last = again.locator(BOUNDS).get_by_role("button", name=other, exact=True)
    assert last.get_attribute("aria-pressed") == "true"
    rows = "t => [...t.tBodies[0].rows].map(r => r.dataset.point)"
    assert again.locator("#points").evaluate(rows) == page.locator("#points").evaluate(rows)
    assert again.locator("html").get_attribute("data-theme") == "dark"
    same = "document.querySelector('[data-fig=bound-decode]').data.flatMap(t => [...t.x])"
    assert again.evaluate(same) == page.evaluate(same)
    assert again.evaluate("location.hash") == address

    again.evaluate("location.hash = '#parameters'")  # a link without choices takes them back, the theme aside
    again.wait_for_selector("#pills:not(:has([aria-pressed=false]))")
    assert again.locator("#points th[aria-sort]:not([aria-sort=none])").count() == 0
    assert last.get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_nonsense_in_the_address_is_passed_over(opened, reports):
    at = "#nowhere?hide=x&show=bound-decode.0:y&show=z&sort=points:w:up&sort=:&theme=pink&a=%25"
    page = opened(reports / "attention_heads" / "index.html", at=at)
    assert page.locator(".pill[aria-pressed=false]").count() == 0
    assert page.locator(f"{BOUNDS} .switch button[aria-pressed=true]").count() > 0


@pytest.mark.slow
def test_a_menu_and_verdicts_are_restored(opened, reports):
    page = opened(reports / "fit_matrix" / "index.html")
    other = page.locator("#fit-1 .switch").last.get_by_role("button").last
    other.click()
    filled = "t => [...t.querySelectorAll('td')].map(td => td.innerText)"
    cells = page.locator("table[data-matrix=fit]").evaluate(filled)
    again = opened(reports / "fit_matrix" / "index.html", at=page.evaluate("location.hash"))
    assert again.locator("table[data-matrix=fit]").evaluate(filled) == cells


@pytest.mark.slow
def test_every_table_downloads_as_json_too(opened, reports):
    page = opened(reports / "attention_heads" / "index.html")
    assert page.locator("[data-json]").count() == page.locator("[data-csv]").count() > 3
    with page.expect_download() as download:
        page.locator("[data-json=points]").click()
    records = json.loads(Path(download.value.path()).read_text())
    assert download.value.suggested_filename == "points.json"
    assert records[0]["point"].startswith("gemma-2-9b n_kv_heads=") and records[0]["params"] > 9e9


# ---------------------------------------------------------------- what is committed


@pytest.mark.slow
def test_a_value_is_whole_on_a_phone(opened):
    """A name of several words is broken between two of them, where its value would be cut off."""
    page = opened(COMMITTED / "window" / "index.html", width=400)
    names = page.locator("[data-fig^=parameters] .ytick, [data-fig^=memory] .ytick").all_text_contents()
    assert len(names) >= 5 and not any("…" in name for name in names)
    assert any("4,096" in name for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_committed_report(opened, name):
    """Drawn, quiet, within its folder, no wider than a screen, sorted, filtered, downloaded, readable in both themes."""
    page = opened(COMMITTED / name / "index.html")
    assert page.locator(".plot:has(svg.main-svg)").count() == page.locator(".plot").count() > 0
    assert page.evaluate(STRUCTURE) == []
    assert page.evaluate(CLIPPED) == []
    page.locator("#points thead button").nth(1).click()
    page.locator("#pills .pill").first.click()
    with page.expect_download() as download:
        page.locator("[data-csv=points]").click()
    assert len(Path(download.value.path()).read_text().splitlines()) >= 1
    again = opened(COMMITTED / name / "index.html", at=page.evaluate("location.hash"), theme="dark")
    assert again.locator("#pills .pill").first.get_attribute("aria-pressed") == "false"
    narrowed(page)
    if _axe() is not None:
        assert violations(page) == [] and violations(again) == []


@pytest.mark.slow
def test_the_committed_index(opened):
    page = opened(COMMITTED / "index.html")
    links = page.locator(".study h3 a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert {f"{name}/index.html" for name in PAGES} <= set(links)
    assert all((COMMITTED / link).is_file() for link in links)
    narrowed(page)
