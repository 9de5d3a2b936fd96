"""Models and results as a notebook shows them: cards of markup that need no style sheet, no script and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from archlab import units
from archlab.algebra import is_column, is_scalar
from archlab.analyzers.diagram import diagram
from archlab.analyzers.fit import Fit
from archlab.analyzers.flops import Flops
from archlab.analyzers.kv_cache import KVCache
from archlab.analyzers.latency import Latency
from archlab.analyzers.memory import Memory
from archlab.analyzers.params import Params, params
from archlab.report import words
from archlab.report.diagram import drawing, summary
from archlab.report.palette import CHROME, KINDS, PARTS
from archlab.spec import ModelSpec

Line = tuple[str, str, str, str]
"""(what, value, share, how it came to be)."""

ROWS = 8
"""So many points of a grid are listed."""


def html(shown: Any) -> str:
    """The card of a model, or of a result of params, flops, kv_cache, memory, latency, fit or evaluate."""
    return str(_CARDS[type(shown).__name__](shown))


# ---------------------------------------------------------------- a card


def _card(title: str, about: str, *pieces: Markup) -> Markup:
    """A box in light colours, whatever surrounds it: it brings the variables that a drawing takes its colours from."""
    colours = {**CHROME, **{f"part-{k}": pair for k, pair in {**PARTS, **KINDS}.items()}}
    names = ";".join(f"--{name}:{light}" for name, (light, _) in colours.items())
    head = Markup('<div style="font-weight:650;font-size:15px;overflow-wrap:anywhere">{}</div>').format(title)
    said = Markup('<div style="color:{};font-size:13px;margin-bottom:8px">{}</div>').format(CHROME["ink2"][0], about)
    style = (
        f"{names};--font:system-ui,sans-serif;font-family:system-ui,sans-serif;display:inline-block;max-width:100%;"
        f"box-sizing:border-box;padding:12px 16px;border:1px solid {CHROME['line'][0]};border-radius:10px;"
        f"background:{CHROME['card'][0]};color:{CHROME['ink'][0]};text-align:left"
    )
    return Markup('<div style="{}">{}{}{}</div>').format(style, head, said, Markup("").join(pieces))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """The first column at the left, the others at the right; a column that is empty throughout is left out."""
    every = [list(row) for row in rows]
    kept = [i for i, head in enumerate(heads) if i == 0 or head or any(row[i] for row in every)]
    lines = [_line("th", [heads[i] for i in kept])] * any(heads) + [
        _line("td", [row[i] for i in kept]) for row in every
    ]
    table = Markup('<table style="border-collapse:collapse;font-size:13px;margin:0;color:inherit">{}</table>')
    return Markup('<div style="overflow-x:auto">{}</div>').format(table.format(Markup("").join(lines)))


def _line(tag: str, texts: Sequence[str]) -> Markup:
    weight = "600" if tag == "th" else "400"
    cells = [
        Markup('<{0} style="text-align:{1};font-weight:{2};padding:2px {3} 2px 0;background:none;white-space:nowrap;'
               'max-width:420px;overflow:hidden;text-overflow:ellipsis;color:{4}">{5}</{0}>').format(
            Markup(tag), "right" if i else "left", weight, "14px", CHROME["ink" if i else "ink2"][0], text)
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return Markup('<tr style="background:none">{}</tr>').format(Markup("").join(cells))


def _lines(lines: Iterable[Line]) -> Markup:
    return _table(("", "", "", ""), lines)


# ---------------------------------------------------------------- numbers


def _said(value: Any, show: Callable[[Any], str]) -> str:
    """A number with its unit; of columns their extent, of symbols their text."""
    if value is None:
        return words.NONE
    if is_scalar(value):
        return show(value)
    if is_column(value):
        return f"{show(value.min())} to {show(value.max())}"
    return str(value)


def _count(value: Any) -> str:
    return f"{value:,.0f}"


def _shares(by_part: Mapping[str, Any], total: Any, show: Callable[[Any], str], how: str) -> list[Line]:
    """A line a part, with its share of a total that is one number."""
    return [(f"  {part.replace('_', ' ')}", _said(v, show), _share(v, total), how) for part, v in by_part.items()]


def _share(value: Any, total: Any) -> str:
    return words.percent(value / total) if is_scalar(value) and is_scalar(total) and total else ""


# ---------------------------------------------------------------- what is shown


def _model(spec: ModelSpec) -> Markup:
    if not is_scalar(spec.n_layers):
        return _card(spec.name, f"{spec.family}: a model of many sizes at once, which has no one picture")
    told = diagram(spec)
    pictures = [drawing(told, i) for i in range(len(told["stacks"]))]
    row = Markup('<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:12px 28px">{}{}</div>')
    return _card(
        spec.name, ", ".join([spec.family, summary(told)]), row.format(Markup("").join(pictures), _parts(params(spec)))
    )


def _params(found: Params) -> Markup:
    return _card("Parameters", "Tied tables count once.", _parts(found))


def _parts(found: Params) -> Markup:
    lines: list[Line] = [("total", _said(found.total, _count), "", "calculated")]
    lines += _shares(found.by_part, found.total, _count, "calculated")
    for name in ("active", "effective", "checkpoint"):
        value = getattr(found, name)
        if not (is_scalar(value) and is_scalar(found.total) and value == found.total):
            lines.append((name, _said(value, _count), "", "calculated"))
    return _lines(lines)


def _flops(found: Flops) -> Markup:
    lines: list[Line] = [("exact: what masks keep", _said(found.total, words.say_flop), "", "calculated")]
    lines += _shares(found.by_part, found.total, words.say_flop, "calculated")
    lines.append(("dense: full squares", _said(found.dense, words.say_flop), "", "calculated"))
    lines.append(("elementwise operations", _said(found.vector, _count), "", "calculated"))
    return _card("FLOPs", "A multiply-add is two; matrix products.", _lines(lines))


def _kv_cache(found: KVCache) -> Markup:
    lines: list[Line] = [("total", _said(found.total, units.show_bytes), "", "calculated")]
    lines += _shares(found.by_part, found.total, units.show_bytes, "calculated")
    return _card("KV cache", "Once the context is full.", _lines(lines))


def _memory(found: Memory) -> Markup:
    how = "calculated" if all(item.basis == "calculated" for item in found.items) else "estimate"
    lines: list[Line] = [("needed", _said(found.needed, units.show_bytes), "", how)]
    lines += [
        (f"  {item.part.replace('_', ' ')}, {item.kind.replace('_', ' ')}" + ", on the host" * (item.on == "host"),
         _said(item.bytes, units.show_bytes), _share(item.bytes, found.needed), item.basis) for item in found.items
    ]  # fmt: skip
    lines.append(("reserved", _said(found.reserved, units.show_bytes), "", how))
    if found.budget is not None:
        lines.append(("the engine may use", _said(found.budget, units.show_bytes), "", ""))
    return _card("Memory of the device", _verdict(found), _lines(lines))


def _verdict(found: Memory) -> str:
    if found.budget is None:
        return "of the fullest rank"
    words_ = {"fits": "It fits.", "tight": "It fits, barely.", "no": "It does not fit."}
    return words_[found.verdict] if is_scalar(found.left) else "of many points"


def _latency(found: Latency) -> Markup:
    lines: list[Line] = [("one pass", _said(found.seconds, units.show_seconds), "", found.source)]
    lines += _shares(found.by_part, found.seconds, units.show_seconds, found.source)
    if found.source != "bound":
        lines.append(("the roofline", _said(found.bound_seconds, units.show_seconds), "", "bound"))
    if found.at_published_efficiency is not None:
        published = _said(found.at_published_efficiency, units.show_seconds)
        lines.append(("at what published systems reach", published, "", "estimate"))
    limit = f"Limited by {found.bound}." if is_scalar(found.seconds) else "Of many points."
    return _card("Latency", limit, _lines(lines))


def _fit(found: Fit) -> Markup:
    context = _said(found.context, units.show_tokens)
    lines: list[Line] = [
        ("needed", _said(found.memory.needed, units.show_bytes), "", "estimate"),
        ("the engine may use", _said(found.memory.budget, units.show_bytes), "", ""),
        ("longest context", _said(found.max_context, _count), "tokens", "estimate"),
        ("trained for", _said(found.trained_context, _count), "tokens", ""),
        (f"largest batch at {context}", _said(found.max_batch, _count), "", "estimate"),
    ]
    if found.tokens_per_s is not None:
        lines.append(("tokens a second, at most", _said(found.tokens_per_s, lambda x: f"{x:,.1f}"), "", "bound"))
    lines += [("would make it fit", remedy.words, "", "") for remedy in found.remedies]
    asked = f"{_said(found.batch, _count)} × {context} tokens"
    return _card(f"Does it fit: {asked}", _verdict(found.memory), _lines(lines))


def _points(found: Any) -> Markup:
    """The first points: their axes, and the numbers that people compare first."""
    from archlab.report.columns import quantity

    frame = found.frame(range(min(ROWS, len(found))))
    axes = [key for axis in found.axes for key in axis.values]
    shown = [quantity(column) for column in _COMPARED if column in frame.columns]
    rows = [
        [*(str(row[key]) for key in axes), "" if row["status"] == "ok" else row["reason"],
         *("" if row[q.column] != row[q.column] else q.say(float(row[q.column])) for q in shown)]
        for row in frame.to_dict("records")
    ]  # fmt: skip
    heads = [*axes, "refused" if (frame["status"] != "ok").any() else "", *(f"{q.head} ({q.tag})" for q in shown)]
    sizes = " × ".join(map(str, found.shape)) or "1"
    listed = f"the first {len(rows)} of them" if len(found) > len(rows) else "all of them"
    return _card(f"{len(found):,} points", f"{sizes}; {listed}. All columns: .frame()", _table(heads, rows))


_COMPARED = (
    "params",
    "kv_cache_bytes",
    "memory_bytes",
    "flops_decode",
    "prefill_bound_s",
    "decode_bound_s",
    "max_context",
)

_CARDS: Mapping[str, Callable[[Any], Markup]] = {
    "ModelSpec": _model, "Params": _params, "Flops": _flops, "KVCache": _kv_cache, "Memory": _memory,
    "Latency": _latency, "Fit": _fit, "Points": _points,
}  # fmt: skip
"""Class -> what makes its card. By name: points bring numpy and pandas, which the others do without."""
