"""The map of context and batch, the roofline and the curves of throughput, in a browser."""

from __future__ import annotations

import pytest
from drawn import settled

DATA = "name => document.querySelector(`[data-fig=${name}]`).data"
CURVES = (
    "() => document.querySelector('[data-fig=speed-throughput]').data.filter(t => t.name && t.visible !== false).length"
)


def crosses(page):
    return sum("✕" in text for text in page.evaluate(DATA, "context-batch")[1]["text"])


def test_menus_hover_filter_and_tables(visit):
    page = visit("attention_heads")
    menu = page.locator('.card:has([data-fig="context-batch"]) select')
    assert menu.evaluate("menu => menu.selectedOptions[0].textContent") == "n_kv_heads 8"  # the released shape
    before = crosses(page)
    menu.select_option(label="n_kv_heads 1")
    assert crosses(page) < before
    box = page.locator("[data-fig=context-batch]")
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.wait_for_selector("[data-fig=context-batch] .hovertext")
    said = box.locator(".hovertext").text_content()
    assert all(word in said for word in ("n_kv_heads 1", "GiB of", "%", "at most", "tokens"))
    drawn = page.evaluate(CURVES)
    page.locator(".pill", has_text="16").first.click()
    assert settled(page).evaluate(CURVES) == drawn - 1
    for name in ("context-batch", "roofline", "speed-throughput"):
        assert page.locator(f"#{name}-numbers tbody tr").count() > 3


@pytest.mark.slow
def test_a_phone_has_the_marks_alone(visit):
    page = visit("attention_heads", width=400)
    cells = set(page.evaluate(DATA, "context-batch")[1]["text"])
    assert cells <= {"", "≈", "✕"} and "✕" in cells
    assert not any("text" in trace["mode"] for trace in page.evaluate(DATA, "roofline"))
