"""Pages of grids in a browser: a sample of 10^7 points; and a front, main effects and published quality on one page.

Each page is opened once and looked at by all tests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Complaints, playwright
from drawn import settled
from test_report_page import CLIPPED, COLLIDING, STRUCTURE, _axe, resize

from archlab.report import render

sys.path.append(str(Path(__file__).parents[1] / "report"))
import grids

NAMES = {"large": grids.large, "small": grids.small}


@pytest.fixture(scope="module")
def pages(
    browser: playwright.Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[playwright.Page, Complaints]]]:
    """Name -> its page, drawn, and what it complained of. Offline."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    opened = {}
    for name, write in NAMES.items():
        page, said = context.new_page(), Complaints()
        said.watch(page)
        page.goto(render(write(tmp_path_factory.mktemp("grids") / name)).as_uri())
        settled(page)
        opened[name] = (page, said)
    yield opened
    context.close()
    assert not [text for _, said in opened.values() for text in said]


@pytest.fixture(params=list(NAMES))
def page(request: pytest.FixtureRequest, pages: dict[str, tuple[playwright.Page, Complaints]]) -> playwright.Page:
    page = pages[request.param][0]
    page.bring_to_front()
    return page


def test_drawn_whole_and_quiet_at_each_width(page):
    assert page.locator(".plot:has(svg.main-svg)").count() == page.locator(".plot").count() > 6
    assert page.evaluate(STRUCTURE) == []
    for width in (400, 1400):
        resize(page, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate(COLLIDING) == []


def test_every_choice_of_the_new_cards_has_its_picture(page):
    for card in ("#axes-1", "#front-1", "#quality-2"):
        for menu in page.locator(f"{card} .switch select").all():
            for option in menu.locator("option").all():
                menu.select_option(option.get_attribute("value"))
                assert page.locator(f"{card} .plot.empty").count() == 0
        for button in page.locator(f"{card} .switch button").all():
            button.click()
            assert page.locator(f"{card} .plot.empty").count() == 0


def test_the_filter_takes_marks_and_rows(page):
    """A pill takes its points off the picture and out of the table of the front, and gives them back."""
    marks = """() => document.querySelector('[data-fig=front]').data
        .filter(t => t.mode === 'markers').reduce((n, t) => n + t.x.length, 0)"""
    heads = """() => [...document.querySelector('#front-table').tBodies[0].rows]
        .map(row => [row.hidden, row.cells[1].textContent.trim() === '1'])"""
    before = page.evaluate(marks)
    pill = page.locator("#pills .pill").first
    pill.click()
    assert pill.get_attribute("aria-pressed") == "false" and 0 < settled(page).evaluate(marks) < before
    assert all(hidden == of_pill for hidden, of_pill in page.evaluate(heads))
    pill.click()
    assert settled(page).evaluate(marks) == before


def test_a_row_of_the_front_shows_its_mark(pages):
    page = pages["small"][0]
    page.bring_to_front()
    page.locator("#front-table tbody tr").nth(1).hover()
    label = page.locator("[data-fig=front] .hoverlayer .hovertext")
    assert label.count() == 1 and "n_kv_heads 2" in label.text_content()
    assert page.locator("main img").count() == 0  # of the hostile title


@pytest.mark.slow
@pytest.mark.skipif(_axe() is None, reason="axe-core is not here (pip install axe-playwright-python, or set AXE_JS)")
def test_axe(pages):
    """The new sections: test_report_page has the others."""
    page = pages["small"][0]
    page.bring_to_front()
    page.evaluate("document.querySelectorAll('#axes details').forEach(d => { d.open = true; })")
    page.add_script_tag(content=_axe().read_text())
    parts = """axe.run({include: [['.top'], ['.bar'], ['#front'], ['#axes'], ['#quality'], ['#refused']]
        .filter(([part]) => document.querySelector(part)), exclude: [['.svg-container']]}).then(r => r.violations)"""
    for _ in ("light", "dark"):
        found = page.evaluate(parts)
        assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []
        page.locator("#theme").click()
