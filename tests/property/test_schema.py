"""What a dotted key reaches: section < kind < the span's section < the span's kind, and columns as numbers."""

import json

import pytest

import archlab
from archlab.errors import SpecError
from archlab.schema import layers_of


def told(spec, index, name):
    """What the mixer of the decoder's layer at a position was told."""
    return spec.decoder.in_order()[index].residuals[0].block.facts()[name]


def test_a_spans_section_wins_over_a_kind_and_its_kind_over_its_section():
    spans = {"spans.big.layers": ":7", "spans.big.attention.n_kv_heads": 2}
    spec = archlab.load("gemma-4-31b", spans)
    assert [told(spec, i, "n_kv_heads") for i in (0, 5, 6, 7, 11)] == [2, 2, 2, 16, 4]
    spec = archlab.load("gemma-4-31b", spans | {"spans.big.global.n_kv_heads": 1})
    assert [told(spec, i, "n_kv_heads") for i in (0, 5, 6, 7, 11)] == [2, 1, 2, 16, 4]


def test_a_later_span_wins_over_an_earlier_ones_kind():
    spans = {"a.layers": ":8", "a.local.window": 8, "b.layers": "2", "b.attention.window": 4}
    spec = archlab.load("gemma-3-1b", {f"spans.{key}": value for key, value in spans.items()})
    assert [told(spec, i, "window") for i in (1, 2, 3, 8)] == [8, 4, 8, 512]


def test_a_span_of_the_encoder_reaches_its_layers_only():
    spans = {"encoder.spans.a.layers": -1, "encoder.spans.a.attention.rope_theta": 7}
    spec = archlab.load("t5gemma-2-270m-270m", spans)
    layers = spec.encoder.in_order()
    assert [layers[i].residuals[0].block.rope_theta for i in (0, 16, 17)] == [10000, 10000, 7]
    assert told(spec, 17, "rope_theta") == 1_000_000


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [(3, {3}), (-1, {9}), ("3, -2:", {3, 8, 9}), (":", set(range(10))), ("8:99", {8, 9}), ("-99:2", {0, 1})],
)
def test_layers_are_named_as_python_slices_them(layers, chosen):
    assert layers_of(layers, 10, "layers") == chosen


@pytest.mark.parametrize("text", ["-5:", "25:", "-5:,29", "25:28, 28, 29"])
def test_layers_are_typed_without_quotes(text, archlab_command):
    done = archlab_command("describe", "gemma-3n-e2b", f"spans.shared.layers={text}", "--json")
    assert done.code == 0, done.err
    same = archlab.load("gemma-3n-e2b", {"spans.shared.layers": "25:"})
    assert (
        json.loads(done.out)["params"]
        == archlab.params(same).total
        != archlab.params(archlab.load("gemma-3n-e2b")).total
    )


def test_columns_are_masked_where_numbers_are_refused():
    spec, key = archlab.load("gemma-3n-e2b"), "spans.shared.attention.n_kv_heads"
    found = archlab.evaluate(spec, archlab.Workload(new=1024), grid={key: [1, 2, 4]})
    assert found.ok.tolist() == [False, True, False]
    for wrong in (1, 4):
        with pytest.raises(SpecError, match=rf"spans.shared.attention: .* n_kv_heads \({wrong}\) must be 2"):
            archlab.load("gemma-3n-e2b", {key: wrong})
