"""archlab report: a run's page, or a gallery of many; what was written on the screen."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from archlab.cli.screen import PATIENCE, aside, html_file, print_json, waiting
from archlab.errors import SpecError
from archlab.report import render
from archlab.report.gallery import gallery
from archlab.report.load import Run, load_run
from archlab.report.words import some

GALLERY = Path("reports")


def page(run: Path | None, out: Path | None, json: bool) -> None:
    """One report: its path on stdout, what is in it on stderr. Raises ArchlabError."""
    if run is None:
        raise SpecError("report takes a run's folder (archlab report runs/window), or --all")
    with waiting(f"rendering {run}"):
        path = render(run, None if out is None else html_file(out))
    if json:
        return print_json({"report": str(path)})
    aside(_summary(path, load_run(run)))
    print(path)


def _summary(path: Path, run: Run) -> str:
    """'report.html   0.83 MB   20 points   one model   21 figures   sha256 3f9c81d2'."""
    written = path.read_bytes()
    facts = [
        path.name, f"{len(written) / 1e6:.2f} MB", some(run.computed, "point"),
        some(len(run.distinct("base")), "model"), some(written.count(b'<div class="plot"'), "figure"),
        f"sha256 {hashlib.sha256(written).hexdigest()[:8]}",
    ]  # fmt: skip
    return "   ".join(facts)


def pages(folder: Path | None, out: Path | None, json: bool) -> None:
    """A gallery: the path of its index on stdout, each page on stderr once it takes long. Raises ArchlabError."""
    if out is not None:
        raise SpecError("--all writes an index.html beside each run; leave --out out")
    if folder is None and not GALLERY.is_dir():
        raise SpecError(f"there is no folder {str(GALLERY)!r} here; name the folder of the runs")
    told = _Progress()
    index = gallery(folder or GALLERY, told)
    if json:
        return print_json({"report": str(index), "pages": list(map(str, told.pages))})
    size = sum(p.stat().st_size for p in told.pages) / 1e6
    aside(f"{index.name}   {some(len(told.pages), 'report')}   {size:.1f} MB   {time.monotonic() - told.start:.1f} s")
    print(index)


class _Progress:
    """Names the pages as they are written, from some seconds on; keeps all of them."""

    def __init__(self) -> None:
        self.start, self.pages, self._named = time.monotonic(), list[Path](), 0

    def __call__(self, page: Path) -> None:
        self.pages.append(page)
        if time.monotonic() - self.start > PATIENCE:
            for waiting in self.pages[self._named :]:
                aside(str(waiting))
            self._named = len(self.pages)
