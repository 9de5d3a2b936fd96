"""When a page is done: pictures outside of the window are drawn after those inside, while nothing else is to do."""

from __future__ import annotations

from typing import Any

DRAWN = "body[data-drawn]"


def settled(page: Any) -> Any:
    """The page, once no picture waits."""
    page.wait_for_selector(DRAWN, timeout=30_000)
    return page
