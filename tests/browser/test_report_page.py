"""The report in a browser: drawn, quiet, offline, readable at each width, sorted, filtered, downloaded, themed."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import runs
from drawn import settled

NAMES = (
    "attention_heads", "gemma-2-and-3", "window", "window_and_pattern", "all_devices", "fit_matrix", "hostile",
    "fast_heads", "batch_context", "sampled", "hostile_times",
)  # fmt: skip

CLIPPED = """() => [...document.querySelectorAll('.plot')].flatMap(box => {
  const frame = box.getBoundingClientRect();
  return [...box.querySelectorAll('text')].filter(t => t.textContent.trim()).filter(t => {
    const r = t.getBoundingClientRect();
    const beside = r.left < frame.left - 1 || r.right > frame.right + 1;
    return r.width && (beside || r.top < frame.top - 1 || r.bottom > frame.bottom + 1);
  }).map(t => box.dataset.fig + ': ' + t.textContent);
})"""

STRUCTURE = """() => {
  const bad = [], all = s => [...document.querySelectorAll(s)];
  const say = (what, elements) => elements.forEach(e => bad.push(what + ': ' + e.outerHTML.slice(0, 80)));
  if (all('main').length !== 1 || all('h1').length !== 1) bad.push('one main and one h1');
  const levels = all('h1, h2, h3, h4').map(h => +h.tagName[1]);
  levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) bad.push('heading level skipped before ' + i); });
  say('button without a name', all('button').filter(b => !(b.textContent.trim() || b.getAttribute('aria-label'))));
  say('picture without a text', all('[role=img]').filter(e => !e.getAttribute('aria-label')));
  say('header without scope', all('th:not([scope])'));
  say('scrolls without focus', all('.scroll:not([tabindex="0"]), .scroll:not([aria-label])'));
  say('picture without numbers', all('.card:has(.plot)').filter(c => !c.querySelector('details table')));
  const ids = all('[id]').map(e => e.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach(id => bad.push('id twice: ' + id));
  return bad;
}"""

RAW_WORDS = """() => [...document.querySelectorAll('.plot text, main td, main .finding, main p')].map(e => e.textContent)
  .filter(text => /\\b(True|False|None|NaN|nan|undefined|null)\\b/.test(text))"""
"""Values that nobody put into words."""

COLLIDING = """() => [...document.querySelectorAll('.plot')].flatMap(box => {
  const texts = [...box.querySelectorAll('.annotation-text, .xtick text, .ytick text, .textpoint text')];
  const rects = texts.filter(t => t.textContent.trim()).map(t => [t.textContent, t.getBoundingClientRect()]);
  const found = [];
  rects.forEach(([a, r], i) => rects.slice(i + 1).forEach(([b, s]) => {
    const wide = Math.min(r.right, s.right) - Math.max(r.left, s.left);
    const high = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
    if (wide > 2 && high > 4) found.push(box.dataset.fig + ': ' + a + ' / ' + b);
  }));
  return found;
})"""


def texts(page, selector):
    return [t.strip() for t in page.locator(selector).all_inner_texts()]


def shown(page, selector="#points tbody tr"):
    return [row.get_attribute("data-point") for row in page.locator(selector).all() if row.is_visible()]


def resize(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_selector(f'body[data-width="{width}"]')


@pytest.mark.parametrize("name", NAMES)
def test_drawn_quiet_and_whole_at_each_width(visit, name):
    """1.5 s is the figure for drawing, on a quiet machine; a loaded one may take longer."""
    page = visit(name)
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert int(page.locator("body").get_attribute("data-ms")) < 4000 * busy
    assert page.locator(".plot").count() >= 3
    assert page.locator(".plot:has(svg.main-svg)").count() == page.locator(".plot").count()
    assert page.locator(".plot.empty").count() == 0
    assert page.locator("section").count() == page.locator("section:has(.card)").count()
    assert page.evaluate(STRUCTURE) == []
    assert page.evaluate(RAW_WORDS) == []
    for width in (1400, 768, 400):
        resize(page, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate(COLLIDING) == []
    resize(page, 1400)
    assert page.evaluate("document.querySelector('[data-fig=parameters] svg').clientWidth") > 700


def test_on_a_phone(visit):
    page = visit("gemma-2-and-3", width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate(CLIPPED) == []
    assert not page.locator(".contents").is_visible()
    assert page.locator("#pills").evaluate("p => p.scrollWidth > p.clientWidth")  # pills scroll by themselves


@pytest.mark.slow
def test_names_of_two_lines_are_seen(visit):
    page = visit("window_and_pattern", width=400)
    lines = page.locator("[data-fig=parameters] .ytick tspan")
    assert lines.count() > 18
    assert lines.evaluate_all("all => all.every(line => getComputedStyle(line).fill !== 'none')")


def test_sorting(visit):
    page = visit("attention_heads")
    head = page.locator("#points th", has_text="KV cache").last
    before = shown(page)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(v) for v in page.locator("#points tbody tr").evaluate_all(
        f"(rows, i) => rows.map(r => r.cells[{head.evaluate('th => th.cellIndex')}].dataset.v ?? -1)")]  # fmt: skip
    assert values == sorted(values, reverse=True)
    assert values[-1] == -1  # the refused point stays last
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.locator("#points th[aria-sort]:not([aria-sort=none])").count() == 1
    assert shown(page) == before  # the study's own order, by n_kv_heads, is that of the cache


def test_the_filter_reaches_everything_and_the_address(visit):
    page = visit("attention_heads")
    pill = page.get_by_role("button", name="n_kv_heads 16")
    visible = """fig => document.querySelector(`[data-fig=${fig}]`).data
        .filter(t => t.meta === 5 && t.visible !== false).length"""
    assert page.evaluate(visible, "kv-context") == 2  # within and beyond the trained context
    rows = len(shown(page))
    pill.click()
    assert pill.get_attribute("aria-pressed") == "false"
    assert settled(page).evaluate(visible, "kv-context") == 0
    assert "5" not in shown(page) and len(shown(page)) == rows - 1
    ticks = "document.querySelector('[data-fig=parameters]').layout.yaxis.categoryarray"
    assert "p5" not in page.evaluate(ticks)
    address = page.evaluate("location.hash")
    assert "hide=" in address

    again = visit("attention_heads", at=address)
    assert again.evaluate(visible, "kv-context") == 0
    assert "5" not in shown(again)
    again.get_by_role("button", name="Show all").first.click()
    assert again.evaluate("location.hash") == ""
    assert "5" in shown(again)


@pytest.mark.slow
def test_many_points_are_filtered_by_what_they_share(visit):
    page = visit("window_and_pattern")
    assert texts(page, ".pills-of") == ["window", "pattern"]
    page.get_by_role("button", name="4,096", exact=True).click()
    page.get_by_role("button", name="gemma-2-9b", exact=True).click()
    assert len(shown(page)) == 6
    for pill in page.locator("#pills .pill").all()[:2]:
        if pill.get_attribute("aria-pressed") == "true":
            pill.click()
    assert page.locator("#all-hidden").is_visible()


@pytest.mark.slow
def test_a_section_is_an_address_and_keeps_the_filter(visit):
    page = visit("attention_heads", at="#latency?hide=n_kv_heads%202")
    assert 0 <= page.locator("#latency").bounding_box()["y"] < 200
    page.locator(".contents a", has_text="Parameters").click()
    assert page.evaluate("location.hash").startswith("#parameters?hide=")
    page.wait_for_timeout(150)
    assert texts(page, ".contents a[aria-current]") == ["Parameters"]
    for section in ("kv-cache", "compute", "method"):
        top = visit("attention_heads", at=f"#{section}").locator(f"#{section}").bounding_box()["y"]
        assert 0 <= top < 200, section


@pytest.mark.slow
def test_switches_choose_the_drawing(visit):
    page = visit("attention_heads")
    longest = "Math.max(...document.querySelector('[data-fig=bound-decode]').data.flatMap(t => t.x))"
    card = page.locator(".card:has([data-fig=bound-decode])")
    before = page.evaluate(longest)
    card.get_by_role("button", name="GeForce RTX 4090").click()
    assert page.evaluate(longest) > before
    card.get_by_role("button", name="8k tokens", exact=True).click()
    assert card.locator(".switch button[aria-pressed=true]").count() == 2


@pytest.mark.slow
def test_what_fits_where(visit, run_folder):
    """Each cell has a word, a mark and a colour; the switches fill them anew; the numbers follow the pointer."""
    page = visit("fit_matrix")
    table, detail = page.locator("table[data-matrix=fit]"), page.locator("[data-detail=fit]")
    assert texts(page, "table[data-matrix=fit] thead small") == ["11.84 GiB", "15.00 GiB", "23.99 GiB", "79.65 GiB"]

    def cell(model, column):
        return table.locator("tbody tr", has_text=model).locator("td").nth(column)

    points = pd.read_parquet(run_folder("fit_matrix") / "points.parquet")
    at = points[(points.workload == "long-32k") & (points.precision == "q4_k_m") & (points.hardware == "rtx-4090")]
    most = at.set_index("point").max_context["gemma-3-27b-text"]
    assert cell("gemma-3-27b", 2).inner_text().split("\n") == ["✓ fits", f"{most // 1024}k"]
    assert cell("gemma-3-27b", 0).inner_text().split("\n") == ["✕ no", "none"]
    assert cell("gemma-3-1b", 3).inner_text().split("\n") == ["✓ fits", "all 32k"]
    assert cell("gemma-2-9b", 3).inner_text().startswith("✓ fits†")  # trained for 8k
    colours = {cell("gemma-3-27b", i).evaluate("td => getComputedStyle(td).backgroundColor") for i in (0, 2)}
    assert len(colours) == 2
    cell("gemma-3-27b", 2).hover()
    assert f"at most {most:,} tokens fit, trained for 128k" in detail.inner_text()
    assert "gemma-3-27b-text on GeForce RTX 4090: " in detail.inner_text() and "(weights 1" in detail.inner_text()
    page.locator("#fit").get_by_role("button", name="bf16").click()
    assert cell("gemma-3-27b", 2).inner_text().split("\n") == ["✕ no", "none"]
    assert "no context fits" in detail.inner_text()
    page.locator("#pills").get_by_role("button", name="gemma-3-1b").click()
    assert not table.locator("tbody tr", has_text="gemma-3-1b").is_visible()


def test_downloads(visit, run_folder):
    page = visit("attention_heads")

    def get(selector):
        with page.expect_download() as download:
            page.locator(selector).click()
        return download.value.suggested_filename, Path(download.value.path()).read_text()

    name, text = get("[data-raw=csv]")
    points = pd.read_parquet(run_folder("attention_heads") / "points.parquet")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert name == "attention_heads-points.csv" and len(rows) == len(points)
    assert list(rows[0]) == list(points.columns)
    assert int(float(rows[0]["kv_cache_bytes"])) == int(points.kv_cache_bytes[0])

    name, text = get("[data-raw=json]")
    whole = json.loads(text)
    assert whole["run"]["question"].startswith("What do shared")
    assert len(whole["measured"]["median_s"]) == 6

    page.get_by_role("button", name="n_kv_heads 16").click()
    _, text = get("[data-csv=points]")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["point"] for r in rows] == [f"gemma-2-9b n_kv_heads={n}" for n in (1, 2, 4, 8, 3)]
    assert int(rows[0]["kv_cache_bytes long-128k bf16"]) == 2906652672


@pytest.mark.slow
def test_theme(visit):
    page = visit("attention_heads")
    colour = "document.querySelector('[data-fig=kv-context]').data.at(-1).line.color"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert settled(page).evaluate(colour) != light
    assert page.locator("#theme").inner_text() == "Light"


@pytest.mark.slow
def test_one_bad_picture_does_not_stop_the_others(visit, complaints):
    page = visit("attention_heads")
    page.evaluate("""() => {
        const react = Plotly.react;
        Plotly.react = (box, ...rest) => {
            if (box.dataset.fig === 'parameters') throw Error('bad');
            return react(box, ...rest);
        };
    }""")
    page.get_by_role("button", name="Dark").click()
    assert "could not be drawn" in settled(page).locator("[data-fig=parameters]").inner_text()
    assert page.locator("#parameters details[open]").count() == 1
    assert page.locator(".plot:has(svg.main-svg)").count() == page.locator(".plot").count() - 1
    complaints.clear()  # the failure is in the console, as it should be


def test_hostile_names_are_text(visit):
    page = visit("hostile")  # an alert would be a complaint
    assert "<script>alert(1)</script>" in page.locator("#points").inner_text()
    assert page.locator("main img, main b[onmouseover]").count() == 0


@pytest.mark.slow
def test_measurements_name_their_device_and_nothing_leads_out(visit):
    """No button that uploads the chart, no logo, no link but into the page."""
    page = visit("attention_heads")
    assert page.locator(".modebar").count() == 0
    targets = page.locator("a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert targets and all(t.startswith("#") for t in targets)
    card = page.locator("#latency .card", has_text="Measured, beside")
    assert "Three points of 6 (n_kv_heads 1, n_kv_heads 8 and n_kv_heads 16) were measured" in card.inner_text()
    assert runs.DEVICE in card.inner_text() and "n = 20" in card.inner_text()
    heads = page.locator("#times thead")
    assert "bound" in heads.inner_text() and "measured" in heads.inner_text()


# ---------------------------------------------------------------- for everybody


def test_by_keyboard(visit):
    page = visit("window")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def _axe() -> Path | None:
    if "AXE_JS" in os.environ:
        return Path(os.environ["AXE_JS"])
    spec = importlib.util.find_spec("axe_playwright_python")
    return Path(spec.origin).parent / "axe.min.js" if spec and spec.origin else None


@pytest.mark.skipif(_axe() is None, reason="axe-core is not here (pip install axe-playwright-python, or set AXE_JS)")
@pytest.mark.parametrize(
    ("name", "theme"),
    [
        ("attention_heads", "light"),
        ("gemma-2-and-3", "dark"),
        ("fit_matrix", "light"),
        ("fit_matrix", "dark"),
        pytest.param("fast_heads", "light", marks=pytest.mark.slow),
        ("fast_heads", "dark"),
        pytest.param("batch_context", "light", marks=pytest.mark.slow),
    ],
)
def test_axe(visit, name, theme):
    page = visit(name, theme=theme)
    assert page.locator("html").get_attribute("data-theme") == theme  # as the reader's system has it
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.add_script_tag(content=_axe().read_text())
    found = page.evaluate("axe.run({exclude: [['.svg-container']]}).then(r => r.violations)")
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []
