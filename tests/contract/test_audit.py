"""The audit agrees on every preset, and can fail: each kind of lie about a block is seen."""

import json
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from specs import ONE_A_FAMILY, PRESETS, shrunk

import archlab
from archlab import blocks, nn
from archlab.nn.audit import Audit, audit, telling_context
from archlab.rows import Op, Weight, matmul


def wrong(found: Audit) -> list[str]:
    return [check.what for check in found.checks if not check.agree]


@pytest.mark.parametrize("preset", ONE_A_FAMILY)
def test_presets_in_small(preset):
    found = audit(shrunk(preset), batch=2)
    assert found.ok, wrong(found)
    sources = {check.source for check in found.checks}
    assert sources == {"nn.Module", "FlopCounterMode", "2 x fvcore", "fvcore"}


def test_a_preset_at_full_size():
    found = audit(archlab.load("gemma-2b"))
    assert found.ok and found.context == 2048


SHAPES = list({archlab.load(name).stacks: name for name in reversed(PRESETS)}.values())[::-1]
"""Presets of different shapes: the audit of a fine-tuned model would be its base's."""


@pytest.mark.slow
@pytest.mark.parametrize("preset", SHAPES)
def test_presets_at_full_size(preset):
    found = audit(archlab.load(preset))
    assert found.ok, wrong(found)


def test_the_context_crosses_the_windows():
    contexts = {
        "gemma-3-270m": 1024,
        "gemma-3-27b-text": 2048,
        "gemma-2-9b": 8192,
        "gemma-2b": 2048,
        "vaultgemma-1b": 1024,
        "paligemma2-3b-896": 8192,
        "paligemma-3b-224": 2048,
    }
    assert {name: telling_context(archlab.load(name)) for name in contexts} == contexts


@pytest.mark.slow
def test_as_json():
    document = json.loads(json.dumps(audit(shrunk("gemma-2-2b"), context=20).as_dict()))
    assert document["ok"] is True and document["context"] == 20
    assert document["checks"][0].keys() == {"what", "closed_form", "module", "source", "agree"}


def test_a_row_too_many(monkeypatch):
    real = blocks.MLP.ops

    def ops(self: blocks.MLP) -> Iterator[Op]:
        yield from real(self)
        yield matmul("x BTD, w.gate FD -> g2 BTF")

    monkeypatch.setattr(blocks.MLP, "ops", ops)
    assert [w.partition(",")[0] for w in wrong(audit(shrunk("gemma-2b")))] == ["dense FLOPs"] * 4


def test_a_product_that_no_row_tells_of(monkeypatch):
    real = nn.mlp.MLP.forward

    def forward(self, x, step):
        return real(self, F.linear(x, x.new_full((40, 40), 1.0)), step)

    monkeypatch.setattr(nn.mlp.MLP, "forward", forward)
    assert [w.partition(",")[0] for w in wrong(audit(shrunk("gemma-2b")))] == ["dense FLOPs"] * 4


def test_a_parameter_that_no_row_tells_of(monkeypatch):
    real = nn.mlp.MLP.__init__

    def init(self, *args) -> None:
        real(self, *args)
        self.extra = torch.nn.Linear(4, 4, device="meta")

    monkeypatch.setattr(nn.mlp.MLP, "__init__", init)
    assert wrong(audit(shrunk("gemma-2b"))) == ["parameters", "parameters, undeclared"]


def test_a_tied_head_with_a_table_of_its_own(monkeypatch):
    def untie(model: torch.nn.Module) -> None:
        model.head.register_parameter("table", torch.nn.Parameter(torch.empty_like(model.embedding.table)))

    monkeypatch.setattr(nn.decoder, "tie", untie)
    assert wrong(audit(shrunk("gemma-2b"))) == ["parameters", "parameters, head"]


@pytest.mark.slow
def test_a_ring_that_is_too_long(monkeypatch):
    def init(self, state, buffer) -> None:
        self.buffer, self.window = torch.cat((buffer, buffer), 1), state.window

    monkeypatch.setattr(nn.cache.Ring, "__init__", init)
    assert [w.partition(",")[0] for w in wrong(audit(shrunk("gemma-2-2b")))] == ["cache bytes"]


def test_a_window_that_the_module_forgets(monkeypatch):
    for module in (nn.cache, nn.step):
        monkeypatch.setattr(module, "keys_seen", lambda new, context, window: new)
    found = wrong(audit(shrunk("gemma-2-2b"), context=20))
    assert found == ["dense FLOPs, decode step at 20"] * 2


def test_attention_hidden_from_the_tracers_is_named(monkeypatch):
    """A fused kernel counts as nothing in fvcore: the audit must say so, not drop it."""

    def fused(q, k, v, mask, scale, cap):
        return F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, scale=scale, enable_gqa=True
        ).transpose(1, 2)

    monkeypatch.setattr(nn.attention, "attend", fused)
    named = [w for w in wrong(audit(shrunk("gemma-7b"))) if w.startswith("operations without a count")]
    assert len(named) == 2 and all("scaled_dot_product_attention" in w for w in named)


@pytest.mark.slow
def test_an_unused_weight_of_the_declaration_changes_both(monkeypatch):
    """A declared weight becomes a parameter by itself: that is why counts cannot drift."""
    real = blocks.RMSNorm.weights

    def weights(self: blocks.RMSNorm) -> Iterator[Weight]:
        yield from real(self)
        yield Weight("bias", "D", role="norm", use="vector")

    before = archlab.params(shrunk("gemma-2b")).total
    monkeypatch.setattr(blocks.RMSNorm, "weights", weights)
    found = audit(shrunk("gemma-2b"))
    assert found.ok and found.checks[0].module > before
