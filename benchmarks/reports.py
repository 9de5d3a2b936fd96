"""How large the pages of the gallery are, and how long Chromium takes until all of a page is drawn: the best of five.

    python benchmarks/reports.py [FOLDER]      the pages of reports/, or of another folder
    python benchmarks/reports.py RUN.html      one page

A cold browser opens each page anew, offline, at 1400 x 900. Times are this machine's: run it with nothing beside it.
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
READY = 'body[data-ready="1"]'


def pages(place: Path) -> Iterator[Path]:
    """A page, or those of a gallery, its index first."""
    if place.is_file():
        yield place
    else:
        yield from [p for p in (place / "index.html", *sorted(place.glob("*/index.html"))) if p.is_file()]


def drawn(browser: Browser, page: Path) -> float:
    """Milliseconds from the start of the navigation until all is drawn."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    if tab.locator("body[data-ready], .plot").count():
        tab.wait_for_selector(READY, timeout=60_000)
    took = tab.evaluate("Number(document.body.dataset.ms) || performance.now()")
    context.close()
    return float(took)


def main() -> None:
    """Prints a line a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", nargs="?", type=Path, default=Path("reports"))
    place = parser.parse_args().place
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=ARGS)
        for page in pages(place):
            times = sorted(drawn(browser, page) for _ in range(TIMES))
            print(
                f"{times[0]:7,.0f} ms   median {times[TIMES // 2]:7,.0f}   {page.stat().st_size / 1e6:6.3f} MB   {page}"
            )
        browser.close()


if __name__ == "__main__":
    main()
