"""The explorer in a browser: its numbers are archlab's, for random settings; and it works as a page."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Iterator
from typing import Any

import explored as draws
import pytest
from conftest import Complaints, playwright
from test_report_page import _axe

import archlab
from archlab.cli.main import app
from archlab.report.explorer import explorer_html, render_explorer
from archlab.sweep.explorer import explored, explorer_data

SHOWN = ("gemma-3-27b-text", "gemma-2b")
"""A model of two kinds of layers, and one that gets local layers only by a pattern."""

FAMILIES = (
    "gemma-2-9b", "gemma-3n-e4b", "gemma-4-26b-a4b", "gemma-4-e2b", "gemma-4-31b", "recurrentgemma-2b", "paligemma-3b-224",
    "t5gemma-2b-2b", "t5gemma-2-270m-270m", "llama-3.1-8b", "gpt2-xl", "vaultgemma-1b",
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return explorer_data({name: archlab.load(name) for name in SHOWN}, SHOWN[0])


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    return render_explorer(data, tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture(scope="module")
def shared(browser: playwright.Browser, path) -> Iterator[tuple[playwright.Page, Complaints]]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    page, said = context.new_page(), Complaints()
    said.watch(page)
    page.goto(path.as_uri())
    page.wait_for_selector('body[data-ready="1"]')
    yield page, said
    context.close()
    assert said == []


@pytest.fixture
def page(shared, path) -> playwright.Page:
    """The page at its start."""
    page = shared[0]
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto("about:blank")
    page.goto(path.as_uri())
    page.wait_for_selector('body[data-ready="1"]')
    return page


def until(page: playwright.Page, condition: str) -> None:
    """Waits for a condition; the page's policy forbids the browser's own way, which evaluates text."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def compare(page: playwright.Page, names: tuple[str, ...], answered: int, seed: int) -> None:
    """Random settings of models on a page, held against archlab, until so many of each model have had an answer."""
    rng = random.Random(seed)
    for name in names:
        spec = archlab.load(name)
        found = explored(spec)
        left, draws_left = answered, 10 * answered
        while left:
            draws_left -= 1
            assert draws_left, f"{name}: nearly every draw is refused"
            state = draws.drawn(found, rng)
            shown, said = page.evaluate("state => archlab.compute(state)", state), draws.numbers(found, spec, state)
            assert ("refusal" in shown) == isinstance(said, str), (state, shown.get("refusal"), said)
            if isinstance(said, str):
                refused = re.sub(r"; [\d, or]+ would do$", "", said)
                assert shown["refusal"] in said or refused.endswith(shown["refusal"]), (shown["refusal"], said)
                continue
            assert len(said) > 20
            assert draws.differences(shown["numbers"], said) == [], state
            left -= 1


def test_random_settings_are_archlabs_numbers(page):
    compare(page, SHOWN, 12, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_random_settings_of_a_family(browser, tmp_path, name):
    out = render_explorer(explorer_data({name: archlab.load(name)}, name), tmp_path / "x.html")
    page = browser.new_page()
    page.goto(out.as_uri())
    page.wait_for_selector('body[data-ready="1"]')
    compare(page, (name,), 20, seed=11)
    page.close()


def test_moving_a_slider_moves_numbers_pictures_and_the_address(page):
    before = page.locator("#tiles").inner_text()
    drawn = page.locator("#kv path.now").get_attribute("d")
    slider = page.get_by_label("local.window, slider")
    slider.focus()
    slider.press("ArrowLeft")
    until(page, "location.hash.includes('local.window=768')")
    assert page.locator("#tiles").inner_text() != before
    assert page.locator("#kv path.now").get_attribute("d") != drawn
    assert page.locator("#headline").inner_text().startswith("window 768: KV cache")
    assert page.locator("#kv path.then").get_attribute("d")
    page.get_by_role("button", name="Reset").click()
    assert page.locator("#tiles").inner_text() == before


def test_the_address_brings_a_state_back(page, path):
    page.goto("about:blank")
    wanted = "model=gemma-2b&local.window=512&pattern=2&context=32768&precision=int4&device=l4&pin.mlp.d_ff=8192"
    page.goto(f"{path.as_uri()}#{wanted}")
    page.wait_for_selector('body[data-ready="1"]')
    state = page.evaluate("archlab.state()")
    assert (state["model"], state["context"], state["precision"], state["device"]) == ("gemma-2b", 32768, "int4", "l4")
    assert state["sizes"]["local.window"] == 512
    assert page.locator("#pattern").input_value() == "2"
    assert "mlp.d_ff 16,384" in page.locator("#changes").inner_text()  # against a baseline that is narrower


def test_what_is_typed_and_what_cannot_be(page):
    field = page.get_by_label("attention.n_kv_heads", exact=True)
    field.fill("5")
    refusal = page.locator("#refusal")
    refusal.wait_for(state="visible")
    assert refusal.inner_text() == "This cannot be: n_heads (32) must be a multiple of n_kv_heads (5)."
    field.fill("1.5")
    assert "is no whole number from 1 to" in page.locator(".field[data-key='attention.n_kv_heads'] .wrong").inner_text()
    field.fill("8")
    refusal.wait_for(state="hidden")
    page.get_by_label("context", exact=True).fill("64k")
    until(page, "archlab.state().context === 65536")


def test_yaml_and_commands_lead_back(page, tmp_path, monkeypatch, capsys):
    page.evaluate(
        "archlab.set({pattern: 3, context: 32768, precision: 'int4', device: 'l4',"
        " sizes: {...archlab.state().sizes, 'local.window': 512, 'mlp.d_ff': 20480}})"
    )
    shown = page.evaluate("archlab.compute(archlab.state()).numbers")
    text = page.locator("#yaml").inner_text()
    (tmp_path / "mine.yaml").write_text(text)
    spec = archlab.load(tmp_path / "mine.yaml")
    assert archlab.params(spec).total == shown["params"]
    assert archlab.kv_cache(spec, 32768).total == shown["kv_cache_bytes"]
    describe, fit = page.locator("#command").inner_text().strip().splitlines()
    assert describe.startswith("archlab describe gemma-3-27b-text 'pattern=[local*2,global]' ")
    with pytest.raises(SystemExit) as ended:
        app(args=[*shlex.split(fit)[1:], "--json"])
    said = capsys.readouterr().out
    assert str(shown["memory_bytes"]) in said
    assert ended.value.code == int(not shown["fits"])


def test_another_model_and_a_pinned_baseline(page):
    page.locator("#model").select_option("gemma-2b")
    until(page, "archlab.state().model === 'gemma-2b'")
    assert page.locator(".field[data-key='local.window']").is_hidden()
    page.locator("#pattern").select_option(label="1 local : 1 global")
    page.locator(".field[data-key='local.window']").wait_for(state="visible")
    assert "local: {window: 4096}" in page.locator("#yaml").inner_text()
    page.get_by_role("button", name="Pin as baseline").click()
    assert "As the baseline" in page.locator("#changes").inner_text()


@pytest.mark.slow
def test_at_each_width_and_theme(page):
    for theme in ("light", "dark"):
        for width in (400, 768, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        if _axe() is not None:
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            page.add_script_tag(path=_axe())
            found = page.evaluate("axe.run()")["violations"]
            assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []
        page.get_by_role("button", name="Dark" if theme == "light" else "Light").click()


def test_a_csv(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "number,baseline,now,kind"
    params = page.evaluate("archlab.compute(archlab.state()).numbers.params")
    assert lines[1] == f"params,{params},{params},calculated"


@pytest.mark.slow
def test_the_same_models_give_the_same_bytes(data):
    again = explorer_data({name: archlab.load(name) for name in SHOWN}, SHOWN[0])
    assert explorer_html(data) == explorer_html(again)


@pytest.mark.slow
def test_a_hostile_name_is_text(browser, tmp_path):
    name = "</script><img src=x onerror=alert(1)>\u05d0\u05d1'\"" + "x" * 260
    spec = archlab.load("gemma-3-270m", {"name": name})
    page, said = browser.new_page(), Complaints()
    said.watch(page)
    page.goto(render_explorer(explorer_data({"mine.yaml": spec}, name), tmp_path / "x.html").as_uri())
    page.wait_for_selector('body[data-ready="1"]')
    assert page.locator("#headline").inner_text().startswith(name)
    for width in (400, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").count() == 0
    assert said == []
    page.close()
