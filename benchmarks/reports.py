"""How large the pages of the gallery are, and how long Chromium takes until a page can be used, and until all is drawn.

    python benchmarks/reports.py [FOLDER]      the pages of reports/, or of another folder
    python benchmarks/reports.py RUN.html      one page

A cold browser opens each page anew, offline, at 1400 x 900; times are the best of five. A page can be used once what is
in the window is drawn and the filter and the tables answer; the other pictures follow while nothing else is to do.
Times are this machine's: run it with nothing beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
TIMES = 5
READY, DRAWN = "body[data-ready]", "body[data-drawn]"


def pages(place: Path) -> Iterator[Path]:
    """A page, or those of a gallery, its index first."""
    if place.is_file():
        yield place
    else:
        yield from [p for p in (place / "index.html", *sorted(place.glob("*/index.html"))) if p.is_file()]


def opened(browser: Browser, page: Path) -> tuple[float, float]:
    """Milliseconds from the start of the navigation until the page can be used, and until all is drawn."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    for state in (READY, DRAWN) if tab.locator(".plot").count() else (READY,) * tab.locator(READY).count():
        tab.wait_for_selector(state, timeout=60_000)
    ready, drawn = tab.evaluate("[document.body.dataset.ms || performance.now(), document.body.dataset.drawn]")
    context.close()
    return float(ready), float(drawn or ready)


def main() -> None:
    """Prints a line a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", nargs="?", type=Path, default=Path("reports"))
    place = parser.parse_args().place
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=ARGS)
        for page in pages(place):
            ready, drawn = (sorted(times) for times in zip(*(opened(browser, page) for _ in range(TIMES)), strict=True))
            print(
                f"{ready[0]:7,.0f} ms   median {ready[TIMES // 2]:7,.0f}   all drawn {drawn[0]:7,.0f}   "
                f"{page.stat().st_size / 1e6:6.3f} MB   {page}"
            )
        browser.close()


if __name__ == "__main__":
    main()
