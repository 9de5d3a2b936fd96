"""Colours: two palettes, light and dark, chosen apart. A figure is built in light ones; the page maps each to its twin.

Lines have at least 3:1 against the card, text 4.5:1. Hue is the group (a family, a base), lightness the place in it,
and dash and marker repeat the hue, so that a picture reads in grey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Pair = tuple[str, str]
"""(light, dark)."""

CHROME: dict[str, Pair] = {
    "page": ("#f7f8fa", "#0f1217"), "card": ("#ffffff", "#171b22"), "ink": ("#15181e", "#eceff4"),
    "ink2": ("#4a5262", "#b6bfcd"), "ink3": ("#616a79", "#98a3b4"), "line": ("#e3e6eb", "#282e38"),
    "rule": ("#c8ccd4", "#414a58"), "accent": ("#1d5fd1", "#7fb0ff"), "on-accent": ("#fefefe", "#0f1218"),
    "wash": ("#eef3fc", "#1b2638"), "bar": ("#d7e4fa", "#22395f"), "limit": ("#b45309", "#f0a860"),
    "band": ("#eceff3", "#222934"), "filled": ("#a9c6f5", "#2f5596"),
    "bound": ("#734c00", "#f3cf8a"), "bound-wash": ("#fdf0cf", "#33290f"),
    "measured": ("#0b6b4a", "#86dcb7"), "measured-wash": ("#dff3ea", "#12291f"),
    "no": ("#9a2c1d", "#f3a79a"), "no-wash": ("#fbe3de", "#381b16"),
    "estimate": ("#5b3f99", "#c9b6f5"), "estimate-wash": ("#efe9fb", "#261f3a"),
    "predicted": ("#a3246f", "#f29fd0"), "predicted-wash": ("#fce7f3", "#381a2c"),
    "extrapolated": ("#48606d", "#a8c1ce"), "extrapolated-wash": ("#e7eef2", "#1c2930"),
}  # fmt: skip

PARTS: dict[str, Pair] = {
    "embedding": ("#8C96A8", "#7d889b"), "attention": ("#2563B8", "#5C97EA"), "mlp": ("#F0A23A", "#EFA644"),
    "norm": ("#3f4652", "#d5dae3"), "head": ("#9A4F96", "#C98AC6"),
    "per_layer": ("#178A9E", "#5FC3D6"), "cross_attention": ("#7B9FD4", "#A9C6F2"), "moe": ("#B0442F", "#E8917F"),
    "altup": ("#5C8A38", "#9BCB76"), "laurel": ("#9AA23C", "#CBD27F"), "vision": ("#6A59B2", "#A99CEA"),
    "audio": ("#BF5F91", "#EBA0C8"), "projector": ("#7C6C5A", "#B9AA97"), "source": ("#7A9ED3", "#A8C5F1"),
    "rest": ("#A59EB9", "#6f6787"), "step": ("#A59EB9", "#6f6787"),
}  # fmt: skip
KINDS: dict[str, Pair] = {
    "global": ("#2664B9", "#5D98EB"), "local": ("#F1A33B", "#F0A745"), "recurrent": ("#2E8B62", "#5CC596"),
    "weights": ("#8D97A9", "#7e899c"), "activations": ("#8458C4", "#B897F0"), "runtime": ("#414854", "#d7dce5"),
    "padding": ("#C3AE93", "#8f7e68"), "other": ("#9A5097", "#CA8BC7"),
}  # fmt: skip

RAMPS: tuple[tuple[Pair, ...], ...] = (
    (("#1A9DB5", "#8FE0EE"), ("#2A86D1", "#5CB8F0"), ("#2457B5", "#6C9BF5"), ("#1A2F80", "#8E86F5")),
    (("#C08600", "#F6C95A"), ("#D2600A", "#F0913A"), ("#8F2D0E", "#E0633A")),
    (("#2F9E6E", "#8BE3B8"), ("#1E7C58", "#4FC795"), ("#0D4A36", "#2FA57E")),
    (("#C257A9", "#F2AEE2"), ("#93388A", "#DA80CF"), ("#571D60", "#BC6FC6")),
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")


@dataclass(frozen=True)
class Look:
    """How one point is drawn: its line, the text beside the line, and what repeats the hue."""

    line: Pair
    text: Pair
    dash: str
    symbol: str


STEPS = 5
"""Shades of one hue that can be told apart."""


def step(i: int, n: int) -> Look:
    """The look of the i-th of n lines of one point: darker and of another marker, the further it is."""
    place = look(0, 0, _place(i, n) / (STEPS - 1))
    return replace(place, symbol=SYMBOLS[i % len(SYMBOLS)])


def step_variable(i: int, n: int) -> str:
    """Its colour as a variable of the style sheet."""
    return f"step-{_place(i, n)}"


def _place(i: int, n: int) -> int:
    return round(i * (STEPS - 1) / (n - 1)) if n > 1 else STEPS - 2


def steps() -> dict[str, Pair]:
    """Every shade of these lines, and of the texts beside them, as variables."""
    looks = [step(i, STEPS) for i in range(STEPS)]
    return {f"step-{i}": x.line for i, x in enumerate(looks)} | {f"step-{i}-text": x.text for i, x in enumerate(looks)}


def look(hue: int, dash: int, shade: float) -> Look:
    """The look of a place (0 to 1) on a ramp: the marker repeats the hue, the dash may say something of its own."""
    line = _along(RAMPS[hue % len(RAMPS)], shade)
    text = (readable(line[0], CHROME["card"][0]), readable(line[1], CHROME["card"][1]))
    return Look(line, text, DASHES[dash % len(DASHES)], SYMBOLS[hue % len(SYMBOLS)])


FILLS = 16
"""Shades of a cell, from an empty device to a full one."""


def filled(share: float) -> Pair:
    """The shade of a cell of which so much is taken, 0 to 1."""
    place = round(min(max(share, 0.0), 1.0) * (FILLS - 1)) / (FILLS - 1)
    empty, full = CHROME["wash"], CHROME["filled"]
    return _mix(empty[0], full[0], place), _mix(empty[1], full[1], place)


def fills() -> list[Pair]:
    """Every shade of a cell."""
    return [filled(i / (FILLS - 1)) for i in range(FILLS)]


def part(name: str) -> Pair:
    """The colour of a part of the model or of a kind of layer."""
    return PARTS.get(name) or KINDS.get(name) or KINDS["other"]


def part_variable(name: str) -> str:
    """The same colour as a variable of the style sheet."""
    return "part-" + (name if name in PARTS or name in KINDS else "other")


def style(font: str, more: Mapping[str, Pair]) -> str:
    """The variables of a style sheet in both palettes: the chrome, parts and kinds of layers, and more."""
    names = CHROME | {f"part-{k}": pair for k, pair in {**PARTS, **KINDS}.items()} | dict(more)
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in names.items()) for i in (0, 1))
    chosen = f":root{{--font:{font};{light}}}"
    return f'{chosen}\n@media screen{{:root[data-theme="dark"]:not(.printing){{{dark};color-scheme:dark}}}}'


def readable(colour: str, behind: str, ratio: float = 4.6) -> str:
    """The colour, moved to black or to white until it can be read as text on `behind`."""
    towards = 0.0 if _luminance(behind) > 0.5 else 255.0
    rgb = _rgb(colour)
    while contrast(_hex(rgb), behind) < ratio:
        rgb = tuple(c + (towards - c) * 0.06 for c in rgb)
    return _hex(rgb)


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast of two colours: 1 to 21."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _along(ramp: tuple[Pair, ...], shade: float) -> Pair:
    place = min(max(shade, 0.0), 1.0) * (len(ramp) - 1)
    i = min(int(place), len(ramp) - 2)
    return _mix(ramp[i][0], ramp[i + 1][0], place - i), _mix(ramp[i][1], ramp[i + 1][1], place - i)


def _mix(a: str, b: str, t: float) -> str:
    return _hex(tuple(x + (y - x) * t for x, y in zip(_rgb(a), _rgb(b), strict=True)))


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(float(int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def _hex(rgb: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(c):02x}" for c in rgb)


def _luminance(colour: str) -> float:
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in _rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
