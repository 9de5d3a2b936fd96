"""Marks of a picture that is markup and no plot: text as text, colours as variables of the style sheet, nothing inline.

Widths are estimated, on the generous side: a page is written before anybody knows the reader's font.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTHS = {0.34: "iljI.,:;'|! ", 0.42: "tfr()[]{}/-", 0.84: "w√÷×±OQDGHNU", 1.0: "mMW@%"}
"""Letters of other widths than the usual, as shares of the size, in a font that runs wide (DejaVu Sans)."""

_EM = {letter: em for em, letters in WIDTHS.items() for letter in letters}


def width(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is, in the unit of its size; rather too much."""
    return sum(_em(c) for c in text) * size * (1.12 if bold else 1.0)


def _em(letter: str) -> float:
    if ord(letter) > 0x2E7F:
        return 1.05
    return _EM.get(letter, 0.72 if letter.isupper() else 0.63)


def cut(text: str, room: float, size: float, bold: bool = False) -> str:
    """The text, or as much of its beginning as there is room for."""
    if width(text, size, bold) <= room:
        return text
    kept = text
    while kept and width(kept + "…", size, bold) > room:
        kept = kept[:-1]
    return kept.rstrip() + "…"


_TIPS = {"up": "l4 6h-8", "left": "l6 -4v8", "right": "l-6 -4v8"}


SIZE, COLOUR = 11.5, "ink2"
"""What a text has unless it says otherwise; the element says it once."""


def _at(x: float) -> str:
    """A coordinate to a twentieth of a pixel or so."""
    return f"{round(x, 1):g}"


@dataclass
class Canvas:
    """Marks in the order in which they are painted; lines and areas are painted last, those of a sort as one path.

    Colours are names of variables of the style sheet.
    """

    marks: list[str] = field(default_factory=list)
    paths: dict[str, list[str]] = field(default_factory=dict)

    def text(
        self, x: float, y: float, said: str, size: float = SIZE, colour: str = "ink", anchor: str = "start",
        bold: bool = False, room: float | None = None,
    ) -> None:  # fmt: skip
        """A line of text with its baseline at y; cut where there is no room for it, the whole then in a title."""
        if not said:
            return
        shown = said if room is None else cut(said, room, size, bold)
        whole = f"<title>{escape(said)}</title>" if shown != said else ""
        own = "" if size == SIZE else f' font-size="{size:g}"'
        own += "" if colour == COLOUR else f' fill="var(--{colour})"'
        own += "" if anchor == "start" else f' text-anchor="{anchor}"'
        own += ' font-weight="640"' if bold else ""
        self.marks.append(f'<text x="{_at(x)}" y="{_at(y)}"{own}>{whole}{escape(shown)}</text>')

    def box(
        self, x: float, y: float, w: float, h: float, fill: str, edge: str = "", radius: float = 6, dash: str = ""
    ) -> None:
        """A rectangle with round corners."""
        line = f' stroke="var(--{edge})"' if edge else ""
        broken = f' stroke-dasharray="{dash}"' if dash else ""
        paint = f"var(--{fill})" if fill else "none"
        self.marks.append(
            f'<rect x="{_at(x)}" y="{_at(y)}" width="{_at(w)}" height="{_at(h)}" rx="{radius:g}" fill="{paint}"{line}'
            f"{broken}/>"
        )

    def line(self, path: str, colour: str = "ink3") -> None:
        """An open line."""
        self._path(f'fill="none" stroke="var(--{colour})" stroke-width="1.3"', path)

    def area(self, path: str, colour: str, faint: bool = False) -> None:
        """A filled outline."""
        self._path(f'fill="var(--{colour})"' + (' fill-opacity="0.45"' if faint else ""), path)

    def _path(self, style: str, path: str) -> None:
        self.paths.setdefault(style, []).append(path)

    def ring(self, x: float, y: float, radius: float) -> None:
        """A circle, empty."""
        self.marks.append(
            f'<circle cx="{_at(x)}" cy="{_at(y)}" r="{radius:g}" fill="var(--card)" stroke="var(--ink3)" '
            f'stroke-width="1.3"/>'
        )

    def tip(self, x: float, y: float, to: str = "up") -> None:
        """The head of an arrow that ends at (x, y)."""
        self.area(f"M{x:g} {y:g}{_TIPS[to]}z", "ink3")

    def up(self, x: float, low: float, high: float) -> None:
        """An arrow upwards from `low` to `high`."""
        self.line(f"M{x:g} {low:g}V{high + 4:g}")
        self.tip(x, high)

    def drawing(self, w: float, h: float, about: str) -> Markup:
        """All of it as one svg element, in its own size; what it shows is said to those who hear it."""
        head = (
            f'<svg class="blocks" xmlns="http://www.w3.org/2000/svg" width="{w:g}" height="{h:g}" '
            f'viewBox="0 0 {w:g} {h:g}" role="img" aria-label="{escape(about)}" font-family="var(--font)" '
            f'font-size="{SIZE}" fill="var(--{COLOUR})">'
        )
        paths = (f'<path d="{"".join(of)}" {style}/>' for style, of in self.paths.items())
        return Markup(f"{head}{''.join((*self.marks, *paths))}</svg>")
