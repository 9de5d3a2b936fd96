"""One stack of a model as a block diagram, from the tokens up: boxes, norms, residual arrows, the strip of its layers.

The description comes from the run (run.json, `diagrams`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from markupsafe import Markup

from archlab import units
from archlab.report import words
from archlab.report.diagram_items import (
    GAP,
    LEFT,
    MIDDLE,
    RIGHT,
    SMALL,
    WIDTH,
    Item,
    Json,
    box,
    column,
    dot,
    either,
    label,
    pill,
    plus,
)
from archlab.report.palette import part_variable
from archlab.report.svg import Canvas, width

Key = tuple[str, str, str]
"""(stack, place, field): what a fact is known by."""

BUS, JOIN, RAIL = 12, 243, 255
"""Where the stream goes around a box, where parallel blocks meet again, where the residual goes up."""


IsMarked = Callable[[str], Callable[[str], bool]]
"""Place -> whether a field of it is called out."""


def drawing(told: Json, nth: int, called_out: Collection[Key] = ()) -> Markup:
    """The svg of the nth stack of a model; facts whose keys are `called_out` are in the accent colour."""
    stack, named = (
        told["stacks"][nth],
        "layers" if len(told["stacks"]) == 1 else told["stacks"][nth]["name"],
    )
    is_marked = _Marks(stack["name"], called_out).of
    is_encoder = stack["name"] == "encoder"
    below = _below(stack, is_marked)
    items = [
        *[label("to the decoder")] * is_encoder,
        *(_alone(last, is_marked) for last in reversed(stack["after"])),
        _frame(stack, named, is_marked), *reversed(below),
        label("source tokens" if is_encoder else "tokens"),
    ]  # fmt: skip
    whole = column(items)
    canvas = Canvas()
    whole.draw(canvas, 1)
    return canvas.drawing(WIDTH, whole.height + 2, f"{told['name']}, {stack['name']}. {about(stack)}")


def summary(told: Json) -> str:
    """'27.01 B parameters, context 128k': what is known of the whole."""
    size = [f"{units.show_count(told['params'])} parameters"] if told["params"] else []
    return ", ".join(size + ([f"context {units.show_tokens(told['context'])}"] if told["context"] else []))


class _Marks:
    """Which facts of a stack are called out."""

    def __init__(self, stack: str, keys: Collection[Key]) -> None:
        self.stack, self.keys = stack, keys

    def of(self, place: str) -> Callable[[str], bool]:
        """Place -> whether the field of this name is called out there."""
        return lambda field: (self.stack, place, field) in self.keys


def _below(stack: Json, is_marked: IsMarked) -> list[Item]:
    """What stands before the layers, from below: the embedding, the towers whose tokens join its own, the rest."""
    first, *rest = stack["before"]
    items: list[Item] = []
    for told in reversed([first, *stack["towers"], *rest]):
        if told in stack["towers"] or told["name"] == PER_LAYER:
            rise = sum(item.height + GAP for item in items)
            items.append(_bypassed(told, is_marked, rise if told["name"] == PER_LAYER else None))
        else:
            items.append(_alone(told, is_marked))
    return items[::-1]


PER_LAYER = "per_layer_embedding"
"""The table that each layer reads a slice of."""


def about(stack: Json) -> str:
    """The picture in a sentence, from the tokens up."""
    inside = [told["title"] for slot in (*stack["slots"], *stack["extra"]) for told in boxes_of(slot)]
    before, after = ([told["title"] for told in stack[side]] for side in ("before", "after"))
    layers = f"{stack['n_layers']:,} layers ({stack['pattern']}) of {words.listing(inside)}"
    return f"From the tokens up: {', '.join([*before, layers, *after])}."


def boxes_of(slot: Json) -> list[Json]:
    """The boxes of what a layer sums to the stream, those beside it among them."""
    return [*slot["boxes"], *(branch["box"] for branch in slot["beside"])]


def _alone(told: Json, is_marked: IsMarked) -> Item:
    """A box outside of the layers; without facts it is a pill."""
    return box(told, is_marked(told["name"])) if told["rows"] else pill(told["title"])


def _bypassed(told: Json, is_marked: IsMarked, rise: float | None) -> Item:
    """A box that the stream goes around, at its left: it joins the stream, or leads to the layers, `rise` above it."""
    inner = box(told, is_marked(told["name"]), dash="4 3" if rise is None else "")

    def draw(canvas: Canvas, y: float) -> None:
        low = y + inner.height + 18
        canvas.line(f"M{MIDDLE} {low:g}v-7H{BUS}V{y + 3:g}H{MIDDLE}v-3")
        inner.draw(canvas, y + 11)
        if rise is None:
            canvas.line(f"M{MIDDLE} {y + 11:g}V{y:g}")
        else:
            top = y - rise - GAP
            canvas.line(f"M{RIGHT} {y + 22:g}H{RAIL}V{top + 5:g}")
            canvas.tip(RAIL, top)

    return Item(inner.height + 18, draw)


# ---------------------------------------------------------------- the repeated layer


TOP = 62
"""Room for how many layers there are, and for their strip."""


def _frame(stack: Json, named: str, is_marked: IsMarked) -> Item:
    """The layer, drawn once: how often it stands there, the strip of all layers, and what one does."""
    items = [pill(stack["scalar"])] if stack["scalar"] else []
    items += [_residual(slot, is_marked) for slot in reversed(stack["extra"])]
    items += [pill("AltUp: correct the others")] if stack["around"] else []
    items += [_residual(slot, is_marked) for slot in reversed(stack["slots"])]
    if stack["around"]:
        items.append(box(stack["around"], is_marked("altup"), title="AltUp: predict"))
    inner = column(items)
    height = TOP + inner.height + 10

    def draw(canvas: Canvas, y: float) -> None:
        canvas.box(1, y, WIDTH - 2, height, "page", "rule", 10)
        _layers(canvas, y + 8, stack, named, is_marked("layers"))
        canvas.line(f"M{MIDDLE} {y + TOP:g}V{y + TOP - 8:g}")
        inner.draw(canvas, y + TOP)
        canvas.line(f"M{MIDDLE} {y + height:g}v-10")

    return Item(height, draw)


def _layers(canvas: Canvas, y: float, stack: Json, named: str, is_marked: Callable[[str], bool]) -> None:
    """'× 62 layers   5 local : 1 global', and a cell a layer below it."""
    count, counted, patterned = f"× {stack['n_layers']:,}", is_marked("n_layers"), is_marked("pattern")
    wide = width(count, 14, True)
    if counted:
        canvas.box(8, y - 1, wide + 10, 20, "wash", radius=5)
    canvas.text(13, y + 13.5, count, 14, "accent" if counted else "ink", bold=True)
    canvas.text(21 + wide, y + 13.5, named, SMALL, "ink2")
    room = WIDTH - 41 - wide - width(named, SMALL)
    colour = "accent" if patterned else "ink2"
    canvas.text(WIDTH - 12, y + 13.5, stack["pattern"], SMALL, colour, "end", patterned, room)
    _strip(canvas, y + 24, stack)


def _strip(canvas: Canvas, y: float, stack: Json) -> None:
    """All layers from the left; one that sees everything is taller, one that a span changed is paler."""
    each, at = (WIDTH - 26) / max(stack["n_layers"], 1), 13.0
    wide = max(each - 1.2, each * 0.7)
    for place, many in stack["runs"]:
        sort = stack["sorts"][place]
        rise = 14 if sort["reach"] == "global" else 7
        cells = "".join(f"M{at + i * each:.4g} {y + 14:g}v-{rise}h{wide:.2g}v{rise}z" for i in range(many))
        canvas.area(cells, part_variable(sort["reach"]), sort["changed"])
        at += each * many


def _residual(slot: Json, is_marked: IsMarked) -> Item:
    """x + post(block(pre(x))): what is summed, with the rail at the right that goes around it."""
    norms = {at: _norm(slot, at, is_marked) for at in ("joint", "post", "pre")}
    if not slot["beside"]:
        inside = [*norms["post"], _blocks(slot, is_marked), *norms["pre"]]
    elif all(branch["reads"] == "normed" for branch in slot["beside"]):
        inside = [*norms["joint"], _parallel(slot, is_marked, norms["post"], []), *norms["pre"]]
    else:
        inside = [*norms["joint"], _parallel(slot, is_marked, norms["post"], norms["pre"])]
    inner = column([plus(slot["scale"]), *inside, dot()])

    def draw(canvas: Canvas, y: float) -> None:
        inner.draw(canvas, y)
        canvas.line(f"M{MIDDLE} {y + inner.height - 1.5:g}H{RAIL}V{y + 8:g}H{MIDDLE + 13}")
        canvas.tip(MIDDLE + 8, y + 8, "left")

    return Item(inner.height, draw, is_junction=True)


def _norm(slot: Json, at: str, is_marked: IsMarked) -> list[Item]:
    return [pill(slot[at], is_marked(slot["name"])(f"norm_{at}"))] if slot[at] else []


def _blocks(slot: Json, is_marked: IsMarked) -> Item:
    """The box; where layers have blocks of several sorts, one of these boxes."""
    return either([box(told, is_marked(told["part"])) for told in slot["boxes"]])


LANES = 10
"""Between blocks that are beside one another."""


def _parallel(slot: Json, is_marked: IsMarked, post: Sequence[Item], pre: Sequence[Item]) -> Item:
    """Blocks beside one another, all of which read the stream from the left and are summed: drawn from the top."""
    lanes = [_lane(branch, is_marked) for branch in slot["beside"]] + [[*post, _blocks(slot, is_marked), *pre]]
    columns = [column(lane, 9) for lane in lanes]
    height = 25 + sum(x.height + LANES for x in columns)

    def draw(canvas: Canvas, y: float) -> None:
        plus().draw(canvas, y)
        outs, ins, at = [], [], y + 25
        for lane, drawn in zip(lanes, columns, strict=True):
            drawn.draw(canvas, at)
            outs.append(at + lane[0].height / 2)
            ins.append(at + drawn.height - lane[-1].height / 2)
            at += drawn.height + LANES
        _split(canvas, y + height, ins)
        _join(canvas, y + 8, outs)

    return Item(height, draw, is_junction=True)


def _lane(branch: Json, is_marked: IsMarked) -> list[Item]:
    """What stands beside the block, with norms of its own."""
    post, pre = ([pill(branch[at])] if branch[at] else [] for at in ("post", "pre"))
    return [*post, box(branch["box"], is_marked(branch["box"]["part"])), *pre]


def _split(canvas: Canvas, low: float, ins: Sequence[float]) -> None:
    """From the stream into each lane."""
    canvas.line(f"M{MIDDLE} {low:g}H{BUS}V{min(ins):g}" + "".join(f"M{BUS} {y:g}H{LEFT - 4}" for y in ins))
    for y in ins:
        canvas.tip(LEFT, y, "right")


def _join(canvas: Canvas, top: float, outs: Sequence[float]) -> None:
    """From each lane into the sum."""
    lanes = "".join(f"M{RIGHT} {y:g}H{JOIN}" for y in outs)
    canvas.line(f"{lanes}M{JOIN} {max(outs):g}V{top:g}H{MIDDLE + 13}")
    canvas.tip(MIDDLE + 8, top, "left")
