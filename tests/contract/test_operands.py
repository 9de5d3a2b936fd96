"""Operands live: what a line reads was made by a line above it, or is the block's input, a weight or a state."""

from collections.abc import Iterator

import pytest
from specs import PRESETS, shrunk

from archlab.algebra import product
from archlab.ledger import Entry, ledger
from archlab.rows import Operand
from archlab.spec import Workload

INPUTS = {"x": "BTD", "ids": "BT"}
"""What a block is given. The head is given R rows of x."""

WORK = Workload(3, new=5, context=17)


def entries() -> Iterator[tuple[str, Entry]]:
    """Distinct blocks of the presets."""
    seen = set()
    for preset in PRESETS:
        for entry in ledger(shrunk(preset), WORK).entries:
            key = (entry.path, tuple(op.text for op in entry.rows.ops), tuple(entry.sizes.items()))
            if key not in seen:
                seen.add(key)
                yield f"{preset}-{entry.kind}-{entry.path}", entry


ENTRIES = dict(entries())


def dense_size(entry: Entry, operand: Operand) -> int:
    return product(entry.sizes[letter] for axis in operand.axes for letter in axis)


@pytest.mark.parametrize("name", ENTRIES)
def test_operands_live_and_keep_their_size(name):
    entry = ENTRIES[name]
    rows = "BRD" if entry.path == "head" else "BTD"
    made = {n: product(entry.sizes[a] for a in axes) for n, axes in {**INPUTS, "x": rows}.items()}
    for op in entry.rows.ops:
        for operand in op.line.inputs:
            if operand.place == "w":
                assert "".join(operand.axes) == entry.rows.weights[operand.name].axes, op.text
            elif operand.place == "cache":
                assert "".join(operand.axes[2:]) == entry.rows.states[operand.name].axes, op.text
            else:
                assert made.get(operand.name) == dense_size(entry, operand), op.text
        for operand in op.line.outputs:
            if operand.place == "cache":
                assert "".join(operand.axes[2:]) == entry.rows.states[operand.name].axes, op.text
            else:
                made[operand.name] = dense_size(entry, operand)


@pytest.mark.parametrize("name", ENTRIES)
def test_everything_declared_is_used(name):
    """Weights are read unless their row says otherwise, states written and read; the last line makes the output."""
    entry = ENTRIES[name]
    read = {(o.place, o.name) for op in entry.rows.ops for o in op.line.inputs}
    written = {(o.place, o.name) for op in entry.rows.ops for o in op.line.outputs}
    assert {("w", w.name) for w in entry.rows.weights.values() if w.use != "unread"} == {r for r in read if r[0] == "w"}
    assert {("cache", s.name) for s in entry.rows.states.values()} == {r for r in read if r[0] == "cache"}
    assert {("cache", s.name) for s in entry.rows.states.values() if s.stored} == {
        w for w in written if w[0] == "cache"
    }
    output = entry.rows.ops[-1].line.outputs[0]
    assert dense_size(entry, output) == product(entry.sizes[a] for a in ("BRV" if entry.path == "head" else "BTD"))
