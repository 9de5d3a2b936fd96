"""Random models as block diagrams: every parameter is in a box or in a norm between, and no text leaves the picture."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

from hypothesis import given, settings
from specs import specs

import archlab
from archlab.analyzers.diagram import diagram
from archlab.ledger import ledger, stored
from archlab.report.diagram import boxes_of, drawing


@given(specs(everything=True))
@settings(max_examples=30, deadline=None)
def test_all_parameters_are_drawn(spec):
    told = diagram(spec)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    boxes = [
        box
        for stack in told["stacks"]
        for box in (
            *stack["towers"], *stack["before"], *stack["after"], *filter(None, [stack["around"]]),
            *(box for slot in (*stack["slots"], *stack["extra"]) for box in boxes_of(slot)),
        )
    ]  # fmt: skip
    between = [n for e, _, n in stored(ledger(spec)) if re.search(r"_norm$", e.path) and not e.in_tower and e.kind]
    assert sum(box["params"] for box in boxes) + sum(between) == archlab.params(spec).total
    for nth in range(len(told["stacks"])):
        ElementTree.fromstring(str(drawing(told, nth)))
