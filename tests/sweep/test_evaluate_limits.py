"""The longest contexts and the held budgets of many points, against memory itself and against their neighbours."""

import numpy as np
import one_by_one
import pytest

import archlab
from archlab.analyzers.fit import MOST_CONTEXT, max_context
from archlab.analyzers.memory import setting
from archlab.errors import SpecError
from archlab.sweep.evaluate import positions, survey
from archlab.sweep.hold import HELD, budget, hold_budget
from archlab.sweep.measures import Asked

BASE = archlab.load("gemma-2-9b")
WORK = archlab.Workload(new=8192, logits="last")
H200 = {"hardware": "h200-sxm", "precision": "bf16", "engine": "ideal"}


# ---------------------------------------------------------------- limits over many points


@pytest.mark.parametrize("hardware", ["h200-sxm", "l4", "rtx-3060-12"])
def test_the_longest_context_is_the_longest(hardware):
    """Beyond all windows, among them, and nowhere; what fits, and one token more, asked of memory itself."""
    generator = np.random.default_rng(5)
    n = 30_000
    columns = {
        "n_layers": generator.integers(1, 60, n), "attention.n_kv_heads": generator.choice([1, 2, 4, 8, 16], n),
        "local.window": generator.integers(1, 9000, n), "mlp.d_ff": generator.integers(64, 20_000, n),
        "d_model": generator.integers(64, 5000, n), "workload.batch": generator.integers(1, 300, n),
    }  # fmt: skip
    asked = Asked(setting(hardware, "bf16", "ideal"), memory=True, limits="context")
    found = survey(BASE, WORK, asked, columns=columns).points()
    most = found["max_context"]
    assert found.ok.all() and ((most > 0) & (most < columns["local.window"])).any()
    at = np.maximum(most, 1)
    for context, fits in ((at, most > 0), (at + 1, np.zeros(n, dtype=bool))):
        there = archlab.evaluate(BASE, WORK, hardware, columns=columns | {"workload.context": context}, memory=True)
        checked = slice(None) if context is at else (most > 0) & (most < MOST_CONTEXT)
        assert (there["fits"] == fits)[checked].all()
    assert (most == 0).any() == (hardware != "h200-sxm")
    for i in generator.integers(0, n, 3):
        values = {key: int(v[i]) for key, v in columns.items()}
        spec = one_by_one.shaped(BASE, values)
        assert max_context(spec, one_by_one.sized(WORK, values), asked.at) == most[i]


# ---------------------------------------------------------------- budgets


def held_pairs():
    return [
        (name, by)
        for name in HELD
        for by in ("mlp.d_ff", "n_layers", "d_model")
        if (name, by) != ("kv_cache", "mlp.d_ff")
    ]


@pytest.mark.parametrize(("name", "by"), [p for p in held_pairs() if p != ("kv_cache", "d_model")])
def test_a_held_budget_is_the_nearest_that_there_is(name, by):
    at = setting("h200-sxm", "bf16", "ideal")
    held = budget(name, BASE, WORK, by=by, at=at)
    grid = {
        "attention.n_kv_heads": [1, 16],
        "attention.head_dim": [64],
        "vocab_size": [1000, 256_000, 4_000_000],
    }
    found = archlab.evaluate(BASE, WORK, "h200-sxm", grid=grid, hold=held, memory=True)
    ok = np.broadcast_to(found.ok, found.shape)
    assert ok.any()
    for position in positions(found):
        values = found.at(position)
        spec = archlab.load(BASE.name, values)
        alone, fits = hold_budget(spec, held)
        assert bool(ok[position]) == fits
        if not fits:
            assert found.reason(position) == held.refusal
            continue
        n = int(found[held.short][position])
        assert n == _entry(alone.data, by) and n % held.multiple == 0
        near = [m for m in range(n - 2 * held.multiple, n + 3 * held.multiple, held.multiple) if m > 0]
        gaps = {m: abs(held.metric(archlab.load(BASE.name, {**values, by: m})) - held.target) for m in near}
        assert gaps[n] == min(gaps.values()), (values, gaps)
        amount = held.metric(archlab.load(BASE.name, {**values, by: n}))
        assert found["hold_residual"][position] == pytest.approx(amount / held.target - 1, abs=1e-12)


def _entry(data, key):
    for word in key.split("."):
        data = data[word]
    return data


@pytest.mark.parametrize("by", ["mlp.d_ff", "d_model"])
def test_a_cache_that_a_width_does_not_change_cannot_be_held(by):
    with pytest.raises(SpecError, match="does not change it"):
        budget("kv_cache", BASE, WORK, by=by, at=setting("h200-sxm", "bf16", "ideal"))


def test_many_linked_points_hold_a_budget():
    """More than are computed at once: the few that cannot be solved are looked for together."""
    generator = np.random.default_rng(2)
    n = 70_000
    columns = {
        "attention.n_kv_heads": generator.choice([1, 2, 4, 8, 16], n), "vocab_size": generator.integers(1000, 9_000_000, n),
        "workload.context": generator.integers(16, 10_000, n), "workload.batch": generator.integers(1, 999, n),
    }  # fmt: skip
    held = budget("memory", BASE, WORK, at=setting("h200-sxm", "bf16", "ideal"))
    found = archlab.evaluate(BASE, WORK, "h200-sxm", columns=columns, hold=held, memory=True)
    assert 0.02 < found.ok.mean() < 0.999
    for i in [*generator.integers(0, n, 25), *np.flatnonzero(~found.ok)[:3]]:
        values = found.at((i,))
        alone, fits = hold_budget(one_by_one.shaped(BASE, values), held)
        assert bool(found.ok[i]) == fits, values
        assert not fits or _entry(alone.data, "mlp.d_ff") == found["d_ff"][i], values
