"""The page: sections through templates, with the pictures, the script and the run's own tables inside one file."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from archlab.errors import ArchlabError
from archlab.report import family, headline, palette, words
from archlab.report.charts.frame import FONT, TEMPLATE
from archlab.report.facets import Facet, facets
from archlab.report.load import Run, load_run
from archlab.report.parts import Section
from archlab.report.points import Cast, cast
from archlab.report.sections import sections

SCRIPTS = (
    "start", "theme", "files", "filter", "text", "plots", "matrix", "marks", "tables", "raw", "contents",
    "address", "main",
)  # fmt: skip
"""The page's script, in the order in which its files are joined."""

PLOTLY = "plotly-basic-4.1.1.min.js.gz"
"""The drawing library, in vendor/ beside its licence. Packed: the page inflates it."""

SHARED_PLOTLY = PLOTLY.removesuffix(".gz")
"""The same as a file that pages share: a page that was opened from a disk may run a script beside it, not fetch one."""

MARGINALS = 1500
"""Rows of marginals.parquet beyond which a page has those alone that it draws."""

_HERE = files("archlab.report")

_UNIT = re.compile(r"(?<=\d) (?=(?:[KMGT]iB|ms|us|s|[TBM]|[PTGM]FLOP|tokens)\b|%)")


def render(run: Path, out: Path | None = None) -> Path:
    """Writes the report of a run folder, as run/report.html or where `out` says. Raises ArchlabError.

    The same run gives the same bytes. The file is complete or not there: it is written beside and then moved.
    """
    target = Path(run) / "report.html" if out is None else Path(out)
    write(target, html(load_run(run)))
    return target


def write(target: Path, text: str) -> None:
    """A text file by way of a temporary name beside it. Raises ArchlabError."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(target)
    except OSError as e:
        with suppress(OSError):  # the folder is not there, or is a file
            beside.unlink(missing_ok=True)
        raise ArchlabError(f"the report cannot be written to {str(target)!r}: {e.strerror or e}") from e


def html(run: Run, assets: str = "") -> str:
    """The page as text, with the drawing library inside it, or beside it in the folder `assets` ('../assets').

    A page with a folder is one of several (see gallery), and leads back to their index.
    """
    points = cast(run)
    pills = facets(points)
    finding, more = heading(points)
    made = family.family_sections(points) if run.meta["kind"] == family.FAMILY else sections(points)
    return environment().get_template("page.html").render(
        headline=finding, lede=more, run=run, cast=points,
        pills=pills, sections=made, moment=words.moment(run.meta["provenance"].get("started_utc")),
        tags={tag for section in made for card in section.cards for tag in card.tags},
        css=Markup(text("page.css")), colours=Markup(_colours(points)), script=Markup(script(SCRIPTS)),
        plotly="" if assets else Markup(_plotly()), library=assets and f"{assets}/{SHARED_PLOTLY}",
        raw=Markup(packed(_raw(run))),
        figures=Markup(packed({"figures": _figures(made), "matrices": _matrices(made), "template": TEMPLATE})),
        data=Markup(as_json({
            "twins": _twins(points),
            "points": _filtered(points, pills),
        })),
    )  # fmt: skip


def heading(points: Cast) -> tuple[str, str]:
    """The heading of a run, and the lines below it."""
    if points.run.meta["kind"] == family.FAMILY:
        return family.headline(points), family.lede(points)
    return words.sentence(headline.headline(points)), headline.lede(points)


def environment() -> jinja2.Environment:
    """The templates, with everything from outside escaped."""
    loader = jinja2.FunctionLoader(text)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"groupby_run": _runs, "unbroken": _unbroken, "brief": _brief}
    return environment


def _unbroken(text: str) -> Markup:
    """Lines do not break at the hyphen of a name, nor between a number and its unit."""
    joined = type(text)(_UNIT.sub("\u00a0", text))
    words_ = (escape(w) for w in joined.split(" "))
    return Markup(" ").join(Markup('<span class="nb">{}</span>').format(w) if _breaks(w) else w for w in words_)


def _brief(value: Any) -> str:
    """A value for sorting and CSV: numbers to nine significant figures, whole ones whole."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _breaks(word: str) -> bool:
    return "-" in word and len(word) < 32 and "<" not in word


def _runs(items: Sequence[Any], attribute: str) -> list[tuple[Any, list[Any]]]:
    """Neighbours with the same attribute, together; unlike jinja's groupby, in their order."""
    return [(key, list(mates)) for key, mates in itertools.groupby(items, key=lambda x: getattr(x, attribute))]


def text(name: str) -> str:
    """A file of templates/."""
    return (_HERE / "templates" / name).read_text(encoding="utf-8")


def script(names: Sequence[str]) -> str:
    """Files of templates/js as one script, which shows the page no names."""
    body = "\n".join(text(f"js/{name}.js") for name in names)
    return f'(function () {{\n"use strict";\n{body}\n}})();'


def packed_plotly() -> bytes:
    """The drawing library, gzipped."""
    return (_HERE / "vendor" / PLOTLY).read_bytes()


def _plotly() -> str:
    return in_text(packed_plotly())


def as_json(value: Any) -> str:
    """JSON that cannot end or open a script element, whatever it says."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def packed(value: Any) -> str:
    """JSON, gzipped, as text. No time is written into it: the same run gives the same bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return in_text(gzip.compress(text.encode(), 9, mtime=0))


def in_text(packed: bytes) -> str:
    """Bytes inside a script element: base85, a sixteenth shorter than base64; a dot for `<`, which could end it."""
    return base64.b85encode(packed).decode("ascii").replace("<", ".")


def _figures(made: tuple[Section, ...]) -> dict[str, Any]:
    found = (figure for section in made for card in section.cards for figure in card.figures)
    return {figure.id: figure.variants for figure in found}


def _matrices(made: tuple[Section, ...]) -> dict[str, Any]:
    """State of the switches -> point -> its cells, as kind, first line, second line and detail."""
    found = (card.matrix for section in made for card in section.cards if card.matrix is not None)
    return {
        matrix.id: {
            state: {p.index: [[s.kind, s.first, s.second, s.detail] for s in squares] for p, squares in rows.items()}
            for state, rows in matrix.states.items()
        }
        for matrix in found
    }


def _filtered(points: Cast, pills: Sequence[Facet]) -> list[dict[str, Any]]:
    """Each point's name and the pills that hold it."""
    inside = [(i, set(facet.points)) for i, facet in enumerate(pills)]
    return [{"name": p.name, "facets": [i for i, held in inside if p.index in held]} for p in points.everyone]


# ---------------------------------------------------------------- colours


def _twins(points: Cast) -> dict[str, str]:
    """Light colour -> dark colour, for the pictures."""
    pairs = [*palette.CHROME.values(), *palette.PARTS.values(), *palette.KINDS.values()]
    pairs += [*palette.steps().values(), *palette.fills()]
    pairs += [pair for p in points.everyone for pair in (p.look.line, p.look.text)]
    return {light.lower(): dark.lower() for light, dark in pairs}


def _colours(points: Cast) -> str:
    """The variables of the style sheet, in both palettes; a point's rows have its colour."""
    own = {f"point-{p.index}": p.look.line for p in points.everyone}
    rows = "\n".join(f'[data-point="{p.index}"] {{ --c: var(--point-{p.index}); }}' for p in points.everyone)
    return f"{palette.style(FONT, palette.steps() | own)}\n{rows}"


# ---------------------------------------------------------------- the run's own tables


def _raw(run: Run) -> dict[str, Any]:
    """points, measured, curves, layers, marginals and run.json: what the download buttons give back."""
    names = ("points", "measured", "curves", "layers", *["marginals"] * (len(run.marginals) <= MARGINALS))
    frames = {name: getattr(run, name) for name in names}
    return {"run": dict(run.meta), **{k: _columns(v) for k, v in frames.items() if not v.empty}}


def _columns(frame: pd.DataFrame) -> Mapping[str, list[Any]]:
    """Column -> values, absent ones null; times to twelve figures, of which four are known; whole numbers as such."""
    return {str(c): [_raw_value(v) for v in frame[c].tolist()] for c in frame.columns}


def _raw_value(value: Any) -> Any:
    if value is None or value is pd.NA or value != value:
        return None
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() and abs(value) < 2**53 else words.significant(value, 12)
