"""Block diagrams: every released model drawn without cut or overlapping text, its facts and sums those of the spec."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import pairwise
from xml.etree import ElementTree

import grids
import pytest

import archlab
from archlab.analyzers.diagram import diagram
from archlab.cli.describe import facts
from archlab.errors import SpecError
from archlab.ledger import ledger, stored
from archlab.report import load_run, render
from archlab.report.charts import architecture
from archlab.report.diagram import drawing
from archlab.report.diagram_items import LEFT, RIGHT, WIDTH
from archlab.report.points import cast
from archlab.report.svg import SIZE, width

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "\u202emodel \u05d0\u05d1\u05d2", "x" * 300)


@cache
def told(name):
    return diagram(archlab.load(name))


def boxes(model):
    for stack in model["stacks"]:
        slots = (*stack["slots"], *stack["extra"])
        yield from (*stack["towers"], *stack["before"], *stack["after"])
        yield from filter(None, [stack["around"]])
        for slot in slots:
            yield from (*slot["boxes"], *(branch["box"] for branch in slot["beside"]))


def pictures(model):
    for nth in range(len(model["stacks"])):
        yield ElementTree.fromstring(str(drawing(model, nth)))


def texts(picture):
    """(from, to, baseline, size, text) of each line of text; its width is estimated."""
    for mark in picture.iter("{http://www.w3.org/2000/svg}text"):
        said, size = (mark.text or "") + "".join(child.tail or "" for child in mark), float(mark.get("font-size", SIZE))
        wide = width(said, size, mark.get("font-weight") is not None)
        left = float(mark.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[mark.get("text-anchor", "start")]
        yield left, left + wide, float(mark.get("y")), size, said


@pytest.mark.parametrize("name", archlab.models())
def test_every_model_is_drawn_whole(name):
    """No text is cut, leaves its box, or lies on another; no box lies on another."""
    assert json.loads(json.dumps(told(name), allow_nan=False)) == told(name)
    for picture in pictures(told(name)):
        found = sorted(texts(picture), key=lambda t: (t[2], t[0]))
        assert not [t for t in found if "…" in t[4]]
        assert all(left >= 0 and right <= WIDTH for left, right, *_ in found)
        for (_, end, y, _, one), (start, _, other_y, size, other) in pairwise(found):
            assert start >= end if y == other_y else other_y - y >= 0.75 * size or start >= end, (one, other)
        rects = [[float(r.get(k)) for k in ("x", "y", "width", "height", "rx")] for r in picture.iter() if r.get("rx")]
        solid = sorted((y, y + h) for x, y, w, h, _ in rects if (x, x + w) == (LEFT, RIGHT))
        assert all(end <= start for (_, end), (start, _) in pairwise(solid))
        assert all(y + h <= float(picture.get("height")) for _, y, _, h, _ in rects)


@pytest.mark.parametrize("name", archlab.models())
def test_the_boxes_and_the_norms_are_all_parameters(name):
    """Against the ledger: what the boxes hold, and the norms between them, is the model."""
    spec = archlab.load(name)
    between = sum(n for entry, _, n in stored(ledger(spec)) if re.search(r"\.(pre|post|joint)_norm$", entry.path))
    inside = sum(n for e, _, n in stored(ledger(spec)) if re.search(r"\.(pre|post|joint)_norm$", e.path) and e.in_tower)
    assert sum(box["params"] for box in boxes(told(name))) + between - inside == archlab.params(spec).total


@pytest.mark.parametrize("name", ["gemma-2b", "gemma-3-27b", "gemma-4-26b-a4b", "recurrentgemma-9b", "llama-3.1-8b"])
def test_the_facts_are_those_that_describe_tells(name):
    found = facts(archlab.load(name))
    said = {(row[0], value.split(" (")[0]) for box in boxes(told(name)) for row in box["rows"] for value in row[2]}
    for layer in found["layers"]:
        for key in ("n_heads", "n_kv_heads", "head_dim", "window", "d_ff"):
            if layer.get(key):
                assert (key, f"{layer[key]:,}") in said
    assert ("vocab_size", f"{found['vocab_size']:,}") in said and ("d_model", f"{found['d_model']:,}") in said
    order = [kind for s in told(name)["stacks"] for i, n in s["runs"] for kind in [s["sorts"][i]["kind"]] * n]
    assert order == archlab.load(name).kinds()


def test_what_differs_is_what_was_changed():
    base = archlab.load("gemma-3-1b")
    changes = {
        "local.window": ("attention", "window"), "mlp.d_ff": ("mlp", "d_ff"), "vocab_size": ("embedding", "vocab_size")
    }  # fmt: skip
    for key, (place, field) in changes.items():
        other = archlab.load("gemma-3-1b", {key: 256})
        found = architecture.differing([architecture.facts_of(diagram(s)) for s in (base, other)])
        assert ("decoder", place, field) in found
        assert {f for _, _, f in found} == {field}
    assert architecture.differing([architecture.facts_of(diagram(base))] * 2) == set()


def test_a_block_that_one_model_lacks_is_named_once():
    found = architecture.differing([architecture.facts_of(told(n)) for n in ("gemma-2b", "gemma-3n-e4b")])
    assert ("decoder", "laurel", "title") in found and ("decoder", "laurel", "rank") not in found


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_kinds_with_hostile_names_are_cut_and_escaped(kinds):
    model = json.loads(json.dumps(told("gemma-3-1b")))
    model["name"] = HOSTILE[0]
    stack = model["stacks"][0]
    stack["pattern"] = " : ".join(HOSTILE[:kinds])
    stack["slots"][0]["boxes"][0]["columns"] = list(HOSTILE[:2])
    stack["slots"][0]["boxes"][0]["rows"] += [["k", name, [name]] for name in HOSTILE]
    stack["after"][-1]["title"] = HOSTILE[3]
    picture = next(iter(pictures(model)))
    assert all(left >= -1 and right <= WIDTH + 1 for left, right, *_ in texts(picture))
    tags = {mark.tag.rpartition("}")[2] for mark in picture.iter()}
    assert tags <= {"svg", "title", "text", "rect", "path", "circle"}


def test_the_page_has_the_diagram_and_its_table(tmp_path):
    """In a study what it turns is in colour; every fact is in the table."""
    known = told("gemma-3-1b") | {"name": "gemma-x"}
    folder = grids.small(tmp_path / "run", diagrams=[known, told("gemma-2b")])
    card = architecture.card(cast(load_run(folder)))
    assert [d.label for d in card.drawings] == ["gemma-x"]  # the other is no base of the run
    rows = {row.head: row.cells[0].text for row in card.numbers.rows}
    assert rows["attention: KV heads"] == "1 (MQA)" and rows["attention: window"] == "local 512, global none"
    marked = re.findall(r'fill="var\(--accent\)"[^>]*>([^<]*)<', card.drawings[0].pictures[0])
    assert sorted(marked) == ["1 (MQA)", "512", "none"]
    page = render(folder).read_text()
    assert page.count('<svg class="blocks"') == 1 and "Turned: n_kv_heads" in page


def test_a_run_without_diagrams_has_no_card(tmp_path):
    assert architecture.card(cast(load_run(grids.small(tmp_path / "run")))) is None


def test_many_layers_are_told_by_their_pattern():
    stack = diagram(archlab.load("gemma-3-1b", {"n_layers": 3000}))["stacks"][0]
    assert stack["runs"] == [] and stack["pattern"] == "5 local : 1 global" and stack["n_layers"] == 3000


def test_columns_have_no_picture():
    sympy = pytest.importorskip("sympy")
    with pytest.raises(SpecError, match="must be one number"):
        diagram(archlab.load("gemma-2b", {"n_layers": sympy.Symbol("L", integer=True, positive=True)}))


# ---------------------------------------------------------------- in a notebook


WORK = archlab.Workload(new=512, context=512)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s, "gemma-3-1b"),
        (archlab.params, "999,885,952"),
        (lambda s: archlab.flops(s, WORK), "TFLOP"),
        (lambda s: archlab.kv_cache(s, 8192), "MiB"),
        (lambda s: archlab.memory(s, WORK, "l4"), "It fits."),
        (lambda s: archlab.latency(s, WORK, "l4"), "bound"),
        (lambda s: archlab.fit(s, "l4"), "longest context"),
        (lambda s: archlab.evaluate(s, WORK, "l4", grid={"attention.n_kv_heads": [1, 3]}), "must be a multiple"),
    ],
)
def test_a_notebook_shows_it(make, said):
    """Well-formed, of inline styles alone, and true."""
    shown = make(archlab.load("gemma-3-1b"))._repr_html_()
    assert said in "".join(ElementTree.fromstring(shown).itertext())
    assert not re.search(r"<script|<style|<link|url\(|https?://(?!www\.w3\.org)", shown)


def test_a_notebook_escapes_names():
    shown = archlab.load("gemma-3-1b", {"name": HOSTILE[0], "family": HOSTILE[1]})._repr_html_()
    assert HOSTILE[0] in "".join(ElementTree.fromstring(shown).itertext()) and "<script" not in shown
