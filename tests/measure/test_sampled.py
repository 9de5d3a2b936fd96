"""Times composed from models of fewer layers: the formula, the models, the residual that decides, and refusals."""

import dataclasses
import random
from fractions import Fraction

import pytest
import torch

import archlab
from archlab.assemble import resolve
from archlab.errors import ArchlabError
from archlab.measure import builds, capacity, cases, turns
from archlab.measure.bench import Bench
from archlab.measure.blank import untimed
from archlab.measure.capacity import last_cache_bytes, need
from archlab.measure.sampled import Plan, Verified, compose, plan_for, verify
from archlab.measure.session import Session, Task
from archlab.measure.single import run_all
from archlab.measure.stats import summarize
from archlab.measure.turns import measure_tasks
from archlab.schema import override

CPU = torch.device("cpu")
WORK = archlab.Workload(new=1, context=16, logits="last")
SPECS = {
    "gemma-3-27b-text": (62, 6, 2), "gemma-2-9b": (42, 2, 0), "gemma-3-12b-text": (48, 6, 0), "gemma-2b": (18, 1, 0),
    "recurrentgemma-2b": (26, 3, 2), "gemma-4-26b-a4b": (30, 6, 0),
}  # fmt: skip
"""Layers, period, what is left over."""


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("periods", [1, 2])
def test_the_models_are_the_head_and_whole_periods_and_the_rest(name, periods):
    """What the longer one has more than the shorter is what the model repeats; both end as the model ends."""
    layers, period, rest = SPECS[name]
    plan = dataclasses.replace(Plan(archlab.load(name), period), periods=periods)
    assert (plan.rest, plan.step, plan.whole.n_layers) == (rest, periods * period, layers)
    short, long = (spec.kinds() for spec in plan.specs)
    whole = plan.whole.kinds()
    assert (len(short), len(long)) == plan.layers == (periods * period + rest, 2 * periods * period + rest)
    assert short == whole[: len(short)] and long == whole[: len(long)] and long[len(short) :] == long[rest : len(short)]
    assert short[len(short) - rest :] == whole[layers - rest :]


@pytest.mark.parametrize("name", SPECS)
def test_composition_is_exact_where_times_add_up(name):
    """Parameters and bytes of a cache add up over layers as times are taken to: from the two, those of the whole."""
    plan = Plan(archlab.load(name), SPECS[name][1])
    for amount in (lambda s: archlab.params(s).total, lambda s: archlab.kv_cache(s, 512, 1, "bf16").total):
        short, long = map(amount, plan.specs)
        assert plan.predict(plan.whole.n_layers, short, long) == pytest.approx(amount(plan.whole), rel=1e-12)
        for depth in plan.depths():
            assert plan.predict(depth, short, long) == pytest.approx(amount(plan.at(depth)), rel=1e-12)
    of_short, of_long = plan.weights(plan.whole.n_layers)
    assert of_short + of_long == 1


def test_depths_go_from_the_whole_to_three_periods():
    plan = Plan(archlab.load("gemma-3-27b-text"), 6)
    assert [*plan.depths()] == [62, 56, 50, 44, 38, 32, 26, 20]
    assert [*dataclasses.replace(plan, periods=3).depths()] == [62, 56]
    assert plan.words == "head + 1 and 2 periods of 6 layers, and the 2 layers left over"


def test_layers_take_four_times_the_cache(monkeypatch):
    """The least number of periods that does; a model with no room for it is measured whole."""
    spec = archlab.load("gemma-3-27b-text")
    layer = (
        need(spec, WORK, "bf16", CPU).weights
        - need(archlab.load("gemma-3-27b-text", {"n_layers": 61}), WORK, "bf16", CPU).weights
    )
    for periods in (1, 2, 4):
        just = int(periods * 6 * layer / 4)
        monkeypatch.setattr("archlab.measure.sampled.last_cache_bytes", lambda _, n=just: n)
        assert plan_for(spec, [WORK], "bf16", CPU).periods == periods
    monkeypatch.setattr("archlab.measure.sampled.last_cache_bytes", lambda _: 10 * layer)
    with pytest.raises(ArchlabError, match="62 layers, too few to sample: 42 would have to differ"):
        plan_for(spec, [WORK], "bf16", CPU)
    assert plan_for(spec, [WORK], "bf16", CPU, cache_bytes=0).periods == 1


def test_the_last_cache_is_the_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity, "CPU_CACHES", tmp_path)
    assert last_cache_bytes(CPU) == 32 * 2**20
    for index, size in enumerate(("32K", "32768K", "1M", "unknown")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_cache_bytes(CPU) == 32 * 2**20
    (tmp_path / "index2" / "size").write_text("96M")
    assert last_cache_bytes(CPU) == 96 * 2**20


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gemma-3n-e2b", r"its spans \(sparse, shared\) change some of them by position"),
        ("t5gemma-b-b", "it has an encoder"),
        ("gemma-3-270m", "7 layers, too few to time 2 periods of 6 instead"),
    ],
)
def test_what_has_no_period_is_refused(name, said):
    spec = archlab.load(name, {"n_layers": 7} if name == "gemma-3-270m" else {})
    with pytest.raises(ArchlabError, match=said):
        plan_for(spec, [WORK], "fp32", CPU, cache_bytes=0)


# ---------------------------------------------------------------- synthetic timings

HEAD, LOCAL, GLOBAL = 3e-3, 1e-3, 2e-3
"""Seconds of a machine that is as regular as the method takes it to be."""


def timed(plan, layers, noise=0.0, extra=0.0):
    """A record of so many layers on that machine."""
    kinds = plan.at(layers).kinds()
    exact = HEAD + kinds.count("local") * LOCAL + kinds.count("global") * GLOBAL + extra
    draw = random.Random(layers)
    samples = [exact * (1 + draw.gauss(0, noise)) for _ in range(50)]
    blank = untimed(plan.at(layers), WORK, CPU, "fp32", 0)
    return dataclasses.replace(
        blank, **dataclasses.asdict(summarize(samples)), samples=tuple(samples), runs="CUDA graph"
    )


@pytest.fixture
def plan():
    return Plan(archlab.load("gemma-3-27b-text"), 6)


def test_sampled_equals_full_on_a_regular_machine(plan):
    """62 layers, two of them left over: 52 local and 10 global ones."""
    short, long = (timed(plan, n) for n in plan.layers)
    found = compose(plan, untimed(plan.whole, WORK, CPU, "fp32", 0), short, long)
    assert found.median_s == pytest.approx(HEAD + 52 * LOCAL + 10 * GLOBAL) == timed(plan, 62).median_s
    assert found.ci_low_s == pytest.approx(found.median_s) == found.ci_high_s
    assert (found.p5_s, found.p95_s, found.samples, found.n) == (None, None, (), 50)
    assert [(p["layers"], len(p["samples"])) for p in found.parts] == [(8, 50), (14, 50)]
    assert (found.source, found.residual, found.runs) == ("extrapolated", None, "CUDA graph")


def test_the_interval_grows_with_the_distance_and_holds_the_truth(plan):
    noise = 0.01
    short, long = (timed(plan, n, noise) for n in plan.layers)
    found = compose(plan, untimed(plan.whole, WORK, CPU, "fp32", 0), short, long)
    truth = HEAD + 52 * LOCAL + 10 * GLOBAL
    assert found.ci_low_s < truth < found.ci_high_s
    measured = summarize(long.samples)
    assert found.ci_high_s - found.ci_low_s > 5 * (measured.ci_high_s - measured.ci_low_s)


def test_the_residual_is_what_the_two_say_of_a_deeper_one(plan):
    short, long = (timed(plan, n) for n in plan.layers)
    found = verify(plan, 26, short, long, timed(plan, 26), "26")
    assert (found.residual, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12) and found.shown
    slow = timed(plan, 26, extra=0.1 * timed(plan, 26).median_s)
    assert verify(plan, 26, short, long, slow, "26").residual == pytest.approx(1 / 1.1 - 1)


def test_a_residual_that_noise_may_have_made_shows_nothing(plan):
    """The medians say 0, and the samples anything: two clusters, of which the median is one or the other."""
    short, long = (timed(plan, n) for n in plan.layers)
    deep = timed(plan, 26)
    torn = dataclasses.replace(deep, samples=(deep.median_s,) * 11 + (2 * deep.median_s,) * 10)
    found = verify(plan, 26, short, long, torn, "26")
    assert found.residual == pytest.approx(0, abs=1e-12) and not found.shown
    assert found.low == pytest.approx(-0.5) and found.high == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("off", "width", "source"),
    [
        (0.03, 0.0, "measured"), (-0.03, 0.1, "measured"), (0.0301, 0.0, "extrapolated"),
        (-0.0301, 0.0, "extrapolated"), (0.0, 0.101, "extrapolated"),
    ],
)  # fmt: skip
def test_three_per_cent_decide(plan, off, width, source):
    record = untimed(plan.whole, WORK, CPU, "fp32", 0)
    verified = Verified(off, off - width / 2, off + width / 2, "all 62 layers of a point")
    found = verified.of(dataclasses.replace(record, source="extrapolated"))
    assert (found.source, found.residual, found.verified_on) == (source, off, "all 62 layers of a point")
    assert found.residual_high - found.residual_low == pytest.approx(width)


def test_a_model_of_fewer_layers_that_broke_breaks_the_whole(plan):
    short, long = (timed(plan, n) for n in plan.layers)
    broken = dataclasses.replace(long, status="failed", reason="out of memory")
    found = compose(plan, untimed(plan.whole, WORK, CPU, "fp32", 0), short, broken)
    assert (found.status, found.reason, found.median_s) == ("failed", "at fewer layers: out of memory", None)


# ---------------------------------------------------------------- tiny models


def test_the_layers_have_weights_of_their_own(deep):
    """No storage twice, but for what one matrix is packed of: layers that share weights would stay in the cache."""
    with Bench(Plan(deep, 2).specs[1], CPU, "fp32") as made:
        layers = [{p.untyped_storage().data_ptr() for p in layer.parameters()} for layer in made.model.layers]
        weights = [layer.mlp.down for layer in made.model.layers]
    assert len(layers) == 5 and sum(map(len, layers)) == len(set.union(*layers))
    assert not any(torch.equal(weights[0], other) for other in weights[1:])


@pytest.fixture
def session(rates):
    return Session(CPU, "fp32", rates, seconds=0.02, sampled=True, cache_bytes=0)


@pytest.fixture
def turns_of(monkeypatch):
    """The order in which models are sampled, by their number of layers; and a clock that says 1 ms a layer and 3 more,
    and 10 % more from 9 layers on where `slower` is set.
    """
    order = []
    sample = turns.Trial.sample

    def noted(trial, *args):
        layers = trial.bench.spec.n_layers
        order.append(layers)
        sample(trial, *args)
        seconds = (3 + layers) * 1e-3 * (1.1 if noted.slower and layers >= 9 else 1)
        trial.sampler.samples[:] = [seconds] * len(trial.sampler.samples)

    noted.slower, noted.order = False, order
    monkeypatch.setattr(turns.Trial, "sample", noted)
    return noted


def tasks(*specs):
    return [Task(f"point {index}", spec, "w", WORK) for index, spec in enumerate(specs)]


def test_one_configuration_is_verified_and_the_others_count_on_it(deep, session, turns_of):
    other = resolve(override(dict(deep.data), {"mlp.d_ff": 64}))
    found = [record for _, record in measure_tasks(tasks(deep, other), session)]
    assert [r.median_s for r in found] == pytest.approx([0.012, 0.012]) and {r.status for r in found} == {"ok"}
    assert [r.source for r in found] == ["measured", "measured"]
    assert [r.verified_on for r in found] == ["all 9 layers of point 0"] * 2
    assert [r.residual for r in found] == pytest.approx([0.0, 0.0])
    assert [[p["layers"] for p in r.parts] for r in found] == [[3, 5, 9], [3, 5]]
    assert turns_of.order[:5] == [3, 5, 9, 3, 5] and turns_of.order[5:10] == turns_of.order[:5]  # A B A B
    assert all(r.sampled == "head + 1 and 2 periods of 2 layers, and the 1 layer left over" for r in found)
    assert found[0].cache_bytes == archlab.kv_cache(deep, 16, 1, "fp32").total


@pytest.mark.slow
def test_a_residual_that_is_too_large_is_said_of_all(deep, session, turns_of):
    turns_of.slower = True
    other = resolve(override(dict(deep.data), {"mlp.d_ff": 64}))
    found = [record for _, record in measure_tasks(tasks(deep, other), session)]
    assert [r.source for r in found] == ["extrapolated"] * 2
    assert [r.residual for r in found] == pytest.approx([1 / 1.1 - 1] * 2)


@pytest.mark.slow
def test_where_the_whole_does_not_fit_a_deeper_one_is_taken(deep, session, turns_of, monkeypatch):
    """Memory for 7 of 9 layers: the residual is of these, and says so; for none, and nothing is called measured."""
    plan = Plan(deep, 2)

    def bytes_of(layers):
        return need(plan.at(layers), WORK, "fp32", CPU).total

    caches = sum(need(s, WORK, "fp32", CPU).total - need(s, WORK, "fp32", CPU).weights for s in plan.specs)
    monkeypatch.setattr(cases, "available_bytes", lambda _: (bytes_of(7) + caches) / 0.95 + 1)
    [(_, record)] = measure_tasks(tasks(deep), session)
    assert (record.verified_on, record.source) == ("7 of 9 layers of point 0", "measured")
    monkeypatch.setattr(cases, "available_bytes", lambda _: bytes_of(7) / 2)
    [(_, record)] = measure_tasks(tasks(deep), dataclasses.replace(session, verified={}))
    assert (record.verified_on, record.residual, record.source) == ("", None, "extrapolated")


def test_parts_that_do_not_fit_together_are_refused(deep, monkeypatch):
    """Each by itself would: the two stand side by side."""
    plan = Plan(deep, 2)
    each = [need(spec, WORK, "fp32", CPU).total for spec in plan.specs]
    monkeypatch.setattr(builds, "available_bytes", lambda _: int(max(each) / 0.95) + 1)
    monkeypatch.setattr("archlab.measure.sampled.last_cache_bytes", lambda _: 0)
    with pytest.raises(ArchlabError, match=r"needs .* even for 3 and 5 of its layers, and .* KiB too much"):
        run_all(deep, [WORK], "cpu", sampled=True)


def test_building_a_deeper_one_has_a_time_limit(deep, session, turns_of, monkeypatch):
    monkeypatch.setattr(cases, "VERIFY_S", 0.0)
    [(_, record)] = measure_tasks(tasks(deep), session)
    assert (record.status, record.reason) == ("ok", "")
    assert (record.source, record.residual) == ("extrapolated", None)


def test_what_cannot_be_sampled_is_measured_whole_and_says_why(tiny, rates):
    [record] = run_all(tiny, [WORK], "cpu", seconds=0.02, rooflines=rates, sampled=True)
    assert (record.status, record.source, record.sampled, record.n > 0) == ("ok", "measured", "", True)
    assert record.warnings[0].startswith("measured whole: gemma-3-270m has 3 layers, too few")


def test_fractions_of_a_step_are_exact():
    """n - n1 is always whole periods: r = n mod P is in both. With 2 periods a step may be half of one more."""
    plan = dataclasses.replace(Plan(archlab.load("gemma-3-27b-text"), 6), periods=2)
    assert plan.layers == (14, 26) and Fraction(plan.weights(62)[1]) == 4
    assert plan.weights(56)[1] == 3.5
