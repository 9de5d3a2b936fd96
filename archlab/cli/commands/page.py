"""archlab explore and report: pages to open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archlab.cli import complete
from archlab.cli.options import Json
from archlab.cli.screen import html_file, print_json, say, split_words
from archlab.errors import SpecError


def explore(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="MODEL ...; every decoder that archlab knows if none is named",
            show_default=False,
            autocompletion=complete.model,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="the HTML file")] = Path("explorer.html"),
    json: Json = False,
) -> None:
    """Write the explorer: a page of sliders that computes a model's numbers in the browser, offline."""
    from archlab.cli.explorer import write_explorer

    names, overrides = split_words(words or [])
    if overrides:
        raise SpecError(
            f"explore takes models, not {next(iter(overrides))}=...; move its slider, or write a YAML (archlab new)"
        )
    path = write_explorer(names, html_file(out), say)
    print_json({"explorer": str(path), "bytes": path.stat().st_size}) if json else print(path)


def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="a run's folder; with --all one of many runs, reports/ if not given", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="the HTML file; RUN/report.html if not given")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="each run of the folder to its index.html, and an index over them")
    ] = False,
    json: Json = False,
) -> None:
    """Render the HTML report of a run again, from its stored results; with --all a gallery of every run in a folder.

    A report is one file. The pages of a gallery share the drawing library, in assets/ beside them.
    """
    from archlab.cli.report import page, pages

    pages(run, out, json) if every else page(run, out, json)
