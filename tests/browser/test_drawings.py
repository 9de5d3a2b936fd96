"""Diagrams and parallel coordinates in the browser: filtered, readable, and on a phone one below another."""

from __future__ import annotations

import pytest
from drawn import settled

MODELS = ".model:not([hidden]) figcaption"

OUTSIDE = """() => [...document.querySelectorAll('.blocks')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('rect')].map(r => r.getBoundingClientRect());
  return [...svg.querySelectorAll('text')].filter(t => {
    const r = t.getBoundingClientRect(), frame = svg.getBoundingClientRect();
    const cut = boxes.some(b => r.top > b.top && r.bottom < b.bottom && r.left < b.right && r.right > b.right + 0.5);
    return r.left < frame.left || r.right > frame.right || cut;
  }).map(t => t.textContent);
})"""


@pytest.mark.slow
def test_models_side_by_side_are_filtered_and_stand_below_one_another_on_a_phone(visit):
    page = visit("gemma-2-and-3")
    assert page.locator(MODELS).count() == 7
    assert page.evaluate(OUTSIDE) == []  # as this browser's own font has it
    first, second = (page.locator(".model").nth(i).bounding_box() for i in (0, 1))
    assert second["x"] > first["x"] + first["width"]
    page.locator("#pills").get_by_role("button", name="gemma-2-2b").click()
    assert page.locator(MODELS).count() == 6
    phone = visit("gemma-2-and-3", width=400)
    first, second = (phone.locator(".model").nth(i).bounding_box() for i in (0, 1))
    assert second["x"] == first["x"] and second["y"] > first["y"] + first["height"]


@pytest.mark.slow
def test_lines_of_parallel_coordinates_are_filtered_and_turned_on_a_phone(visit):
    page = visit("window_and_pattern")
    drawn = "[...new Set(document.querySelector('[data-fig=parallel]').data.flatMap(t => t.meta))].length"
    assert page.evaluate(drawn) == 18
    page.get_by_role("button", name="gemma-2-9b", exact=True).click()
    assert settled(page).evaluate(drawn) == 9
    rails = "document.querySelector('[data-fig=parallel]').layout.shapes.map(s => s.x0 === s.x1)"
    assert all(page.evaluate(rails))
    assert not any(visit("window_and_pattern", width=400).evaluate(rails))
