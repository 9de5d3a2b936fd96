"""Many runs as pages that share one drawing library, and an index over them: `archlab report --all`.

    gallery(Path("reports"))    # each reports/NAME that holds a run.json -> reports/NAME/index.html; reports/index.html

The pages find one another and the library by relative links: they open from a disk and from any static host.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from archlab.errors import ArchlabError
from archlab.report import page, palette, words
from archlab.report.charts.frame import FONT
from archlab.report.family import FAMILY
from archlab.report.gallery_cards import SUBJECTS, Entry, Measured, entry, measured
from archlab.report.load import load_run

ASSETS = "assets"
SCRIPTS = ("start", "theme", "gallery")
EXPLORER = "explorer/index.html"
"""A page of its own that the index leads to, where it is there."""


def gallery(folder: Path, said: Callable[[Path], None] = lambda _: None) -> Path:
    """Renders every run below a folder, and the index; returns the index. Raises ArchlabError.

    `said` is told of each page. The same runs give the same bytes.
    """
    runs, devices = _runs(folder), measured(folder / "measured")
    for run in runs:  # all, before a page is written; none is kept, since a large run fills memory
        load_run(run)
    _share(folder / ASSETS)
    entries = tuple(_rendered(run, said) for run in runs)
    index = folder / "index.html"
    page.write(index, html(entries, devices, (folder / EXPLORER).is_file()))
    return index


def _runs(folder: Path) -> list[Path]:
    if folder.is_file():
        raise ArchlabError(f"{str(folder)!r} is a file; --all takes the folder that holds the runs' folders")
    if not folder.is_dir():
        raise ArchlabError(f"there is no folder {str(folder)!r}")
    if (folder / "run.json").is_file():
        raise ArchlabError(f"{str(folder)!r} is one run; name the folder that holds it, or leave --all out")
    runs = [p for p in sorted(folder.glob("*")) if (p / "run.json").is_file()]
    if not runs:
        raise ArchlabError(f"{str(folder)!r} holds no run: none of its folders has a run.json")
    return runs


def _rendered(folder: Path, said: Callable[[Path], None]) -> Entry:
    run, out = load_run(folder), folder / "index.html"
    page.write(out, page.html(run, f"../{ASSETS}"))
    said(out)
    return entry(run, f"{folder.name}/index.html")


def _share(folder: Path) -> None:
    """The drawing library as a file, with its licence."""
    folder.mkdir(parents=True, exist_ok=True)
    page.write(folder / page.SHARED_PLOTLY, gzip.decompress(page.packed_plotly()).decode("utf-8"))
    licence = files("archlab.report") / "vendor" / "LICENSE-plotly.txt"
    page.write(folder / "LICENSE-plotly.txt", licence.read_text(encoding="utf-8"))


def html(entries: Sequence[Entry], devices: Sequence[Measured], explorer: bool) -> str:
    """The index as text."""
    studies = [e for e in entries if e.kind != FAMILY]
    groups = [(subject, [e for e in studies if e.subject == subject]) for subject in SUBJECTS]
    return page.environment().get_template("gallery.html").render(
        title=_title(studies), lede=_lede(studies), groups=[g for g in groups if g[1]],
        family=[e for e in entries if e.kind == FAMILY], models=_models(studies), measured=devices,
        explorer=EXPLORER if explorer else "", css=Markup(page.text("page.css") + page.text("gallery.css")),
        colours=Markup(_colours()), script=Markup(page.script(SCRIPTS)),
    )  # fmt: skip


def _models(studies: Sequence[Entry]) -> list[str]:
    return sorted({model for e in studies for model in e.models})


def _title(studies: Sequence[Entry]) -> str:
    """'13 studies of what design choices cost, in 21 models on 15 devices'."""
    devices = {device for e in studies for device in e.devices}
    count = words.sentence(words.some(len(studies), "study", "studies"))
    places = f" on {words.some(len(devices), 'device')}" if devices else ""
    return f"{count} of what a design choice costs: {words.some(len(_models(studies)), 'model')}{places}"


def _lede(studies: Sequence[Entry]) -> str:
    computed, timed = sum(e.computed for e in studies), sum(e.timed for e in studies)
    held = f"{computed:,} points were computed from the models' shapes and the devices' rates"
    own = f", and {words.some(timed, 'timing was', 'timings were')} made" if timed else ""
    return f"{held}{own}. Each report says which of its numbers are which, and gives them all back as CSV and JSON."


def _colours() -> str:
    """The variables of the style sheet, in both palettes."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in palette.CHROME.items()) for i in (0, 1))
    chosen = f":root{{--font:{FONT};{light}}}"
    return f'{chosen}\n@media screen{{:root[data-theme="dark"]:not(.printing){{{dark};color-scheme:dark}}}}'
