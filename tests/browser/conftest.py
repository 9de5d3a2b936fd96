"""A headless Chromium, run folders of several kinds, and their reports. A page that complains fails its test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fast_rows
import pytest
import runs
from drawn import settled

from archlab.report import render

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install archlab[test]")

ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
HOSTILE = {
    "gemma-3-1b": "<script>alert(1)</script>",
    "gemma-2-2b": "</script><img src=x onerror=alert(2)>",
    "gemma3": "<!--<script>",
    "NVIDIA H200 SXM 141GB": "</title><b onmouseover=alert(3)>%{x}</b>",
    "How do Gemma 2 and Gemma 3 differ?": '"><script>alert(4)</script>',
}
HOSTILE_TIMES = {
    "NVIDIA H200 SXM 141GB": "<script>alert(5)</script>%{y}",
    "fast": "</script><img src=x onerror=alert(6)>",
    fast_rows.FEW: "<b onmouseover=alert(7)>a few</b>",
    fast_rows.WARNING: "<script>alert(10)</script>",
    **{text: f"<img src=x onerror=alert(8)>{phase}" for phase, text in fast_rows.KERNELS.items()},
    "composed": "<i>composed</i>",
    "chat-8k": "</title><script>alert(9)</script>",
}
RENAMED = {"hostile": ("gemma-2-and-3", HOSTILE), "hostile_times": ("fast_heads", HOSTILE_TIMES)}
"""Runs whose names are markup: of which plan, and the names."""


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """run_folder("attention_heads") -> a run folder, written once a session. Those of RENAMED have names of markup."""
    root = tmp_path_factory.mktemp("runs")

    def get(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            plan, names = RENAMED.get(name, (name, None))
            runs.write(folder, runs.PLANS[plan], names)
        return folder

    return get


@pytest.fixture(scope="session")
def report(run_folder: Callable[[str], Path]) -> Callable[[str], Path]:
    """report("attention_heads") -> its page, rendered once a session."""

    def get(name: str) -> Path:
        page = run_folder(name) / "report.html"
        return page if page.exists() else render(run_folder(name))

    return get


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[playwright.Browser]:
    path = _chromium()
    if path is None and "CI" not in os.environ:
        pytest.skip("Chromium is not installed (apt-get install chromium, or set CHROMIUM)")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


class Complaints(list[str]):
    """What a page said in its console, threw, asked of the network, or alerted."""

    def watch(self, page: playwright.Page) -> None:
        page.on("console", lambda m: self.append(m.text) if m.type in ("error", "warning", "trace") else None)
        page.on("pageerror", lambda e: self.append(str(e)))
        page.on("dialog", lambda d: (self.append(f"alert: {d.message}"), d.dismiss()))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else self.append(r.url))


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def visit(
    browser: playwright.Browser, report: Callable[[str], Path], complaints: Complaints
) -> Iterator[Callable[..., playwright.Page]]:
    """visit("attention_heads", width=400, theme="dark", at="#latency") -> the page, drawn. Offline."""
    contexts = []

    def go(name: str, width: int = 1400, theme: str = "light", at: str = "") -> playwright.Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, color_scheme=theme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        complaints.watch(page)
        page.goto(report(name).as_uri() + at)
        return settled(page)

    yield go
    for context in contexts:
        context.close()
    assert complaints == []
