"""Operands live: what a line reads was made by a line above it, or is the block's input, a weight or a state."""

from collections.abc import Iterator

import pytest
from specs import DISTINCT, shrunk, telling

from archlab.algebra import product
from archlab.ledger import Entry, ledger
from archlab.nn.declare import ABSENT
from archlab.rows import Operand, Weight

GIVEN = {"x", "ids", "pixels", "e", "p"}
"""What a block may be given: the stream, ids, pixels, the encoder's output, the per-layer embeddings."""

OUTPUT = {"head": "BRV", "vision.projector": "BUO", "altup_split": "ZBTI", "altup_merge": "ZBTI",
          "per_layer_embedding": "BTLP", "altup": "OBTD"}  # fmt: skip
"""What a block makes, where that is not the stream."""


def entries() -> Iterator[tuple[str, Entry]]:
    """Distinct blocks of the presets."""
    seen = set()
    for preset in DISTINCT:
        spec = shrunk(preset)
        for entry in ledger(spec, telling(spec, 3, *((5, 17) if spec.decodes else (17, 17)))).entries:
            key = (entry.path, tuple(op.text for op in entry.rows.ops), tuple(entry.sizes.items()))
            if key not in seen and entry.rows.ops:
                seen.add(key)
                yield f"{preset}-{entry.kind}-{entry.path}-{len(seen)}", entry


ENTRIES = dict(entries())


def dense_size(entry: Entry, operand: Operand) -> int:
    return product(entry.sizes[letter] for axis in operand.axes for letter in axis)


def axes_in_lines(weight: Weight) -> str:
    """A weight's axes as its lines have them: of experts, those that a token goes to."""
    return weight.axes if weight.routed is None else f"Y{weight.axes[1:]}"


@pytest.mark.parametrize("name", ENTRIES)
def test_operands_live_and_keep_their_size(name):
    entry = ENTRIES[name]
    made: dict[str, int] = {}
    for op in entry.rows.ops:
        for operand in op.line.inputs:
            if operand.place == "w":
                assert "".join(operand.axes) == axes_in_lines(entry.rows.weights[operand.name]), op.text
            elif operand.place == "cache":
                assert "".join(operand.axes).endswith(entry.rows.states[operand.name].axes), op.text
            elif operand.name in made:
                assert made[operand.name] == dense_size(entry, operand), op.text
            else:
                assert operand.name in GIVEN, op.text
                made[operand.name] = dense_size(entry, operand)
        for operand in op.line.outputs:
            if operand.place == "cache":
                assert "".join(operand.axes).endswith(entry.rows.states[operand.name].axes), op.text
            else:
                made[operand.name] = dense_size(entry, operand)


@pytest.mark.parametrize("name", ENTRIES)
def test_everything_declared_is_used(name):
    """Weights are read unless their row says otherwise, states written and read; the last line makes the output."""
    entry = ENTRIES[name]
    read = {(o.place, o.name) for op in entry.rows.ops for o in op.line.inputs}
    written = {(o.place, o.name) for op in entry.rows.ops for o in op.line.outputs}
    weights = {("w", w.name) for w in entry.rows.weights.values() if w.use not in ABSENT and w.role != "scalar"}
    assert weights == {r for r in read if r[0] == "w"}
    assert {("cache", s.name) for s in entry.rows.states.values()} == {r for r in read if r[0] == "cache"}
    assert {("cache", s.name) for s in entry.rows.states.values() if s.stored} == {
        w for w in written if w[0] == "cache"
    }
    output = entry.rows.ops[-1].line.outputs[0]
    assert dense_size(entry, output) == product(entry.sizes[a] for a in OUTPUT.get(entry.path, "BTD"))
