"""Ranks: together they hold the model, copies and padding apart, exactly; each what vLLM's rules give it."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.algebra import column, product
from archlab.engines.base import held
from archlab.errors import ArchlabError
from archlab.ledger import Entry, Ledger, ledger, stored
from archlab.parallel import Parallel, ranks, replicated, shard, sources, stages
from archlab.precision import Precision, load_precision
from archlab.spec import ModelSpec
from archlab.workload import Workload

FAMILIES = [
    "gemma-2b", "gemma-2-9b", "gemma-3-1b", "gemma-3-27b", "gemma-3n-e2b", "gemma-4-12b", "gemma-4-26b-a4b", "gemma-4-e2b",
    "gemma-4-e4b", "recurrentgemma-2b", "t5gemma-2b-2b", "t5gemma-2-1b-1b", "paligemma-3b-224", "embeddinggemma-300m",
    "vaultgemma-1b", "llama-3.1-8b", "gpt2-xl",
]  # fmt: skip
SPECS = {name: archlab.load(name) for name in FAMILIES}

WAYS = [
    {"tp": 2}, {"tp": 4}, {"tp": 8}, {"tp": 5}, {"pp": 2}, {"pp": 3}, {"cp": 2}, {"dp": 3}, {"tp": 2, "pp": 2}, {"tp": 4, "cp": 3},
    {"tp": 4, "dcp": 2}, {"tp": 8, "dcp": 4}, {"tp": 4, "ep": 4}, {"tp": 4, "ep": 2}, {"tp": 2, "dp": 4, "ep": 8}, {"dp": 4, "ep": 2},
    {"tp": 2, "pp": 2, "cp": 2, "dp": 2, "ep": 4},
]  # fmt: skip


def workload(spec: ModelSpec, context: int = 4097) -> Workload:
    return Workload(3, context=min(context, spec.context - 3), source=515 if spec.encoder is not None else 0)


def weight_bits(rows: Ledger, precision: Precision) -> int:
    return sum(precision.weight_bits(rows, entry, weight) for entry, weight, _ in stored(rows))


def cache_bits(rows: Ledger, precision: Precision) -> int:
    work = rows.work
    kept = held(rows, precision)
    return sum(h.entry.slots(h.state, work.context, work.source) * h.bits * h.layers * work.batch for h in kept)


def shared(name: str, ways: dict[str, int], context: int = 4097) -> tuple[Ledger, Parallel]:
    rows, parallel = ledger(SPECS[name], workload(SPECS[name], context)), Parallel(**ways)
    try:
        ranks(rows, parallel)
    except ArchlabError as wrong:
        pytest.skip(str(wrong))
    return rows, parallel


@pytest.mark.parametrize("ways", WAYS, ids=lambda w: " ".join(f"{k}{v}" for k, v in w.items()))
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_all_ranks_together_hold_the_model(name, ways, precision):
    rows, parallel = shared(name, ways)
    precision = load_precision(precision)
    each, extra = ranks(rows, parallel), replicated(rows, parallel, precision)
    assert sum(rank.count for rank in each) == parallel.ranks
    for part, bits in (("weights", weight_bits), ("kv_cache", cache_bits)):
        beyond = 8 * sum(e.replicated + e.padding for e in extra if e.part == part)
        assert sum(bits(rank.rows, precision) * rank.count for rank in each) - beyond == bits(rows, precision)
        assert all(e.replicated >= 0 and e.padding >= 0 for e in extra)


def stands(name: str, ways: dict[str, int]) -> bool:
    try:
        return bool(ranks(ledger(SPECS[name], workload(SPECS[name])), Parallel(**ways)))
    except ArchlabError:
        return False


def test_most_of_these_layouts_can_be():
    """What the test above skips is little: each layout is one that some family takes, and each family takes several."""
    taken = {name: [number for number, ways in enumerate(WAYS) if stands(name, ways)] for name in FAMILIES}
    assert set().union(*taken.values()) == set(range(len(WAYS)))
    assert min(map(len, taken.values())) >= 4, taken


def box(entry: Entry, axes: str, parallel: Parallel, place: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """First and last index along each axis that the rank at (dp, tp) stores, by the engines' rules."""
    replica, t = place
    found = []
    for axis in axes:
        split, n = entry.rows.splits.get(axis), entry.sizes[axis]
        tp, ep = parallel.tp, parallel.ep
        if split is None:
            part, parts = 0, 1
        elif split.how == "heads" and tp > n:
            part, parts = t // (tp // n), n  # QKVParallelLinear: ranks in a row have the same head
        elif split.how == "experts":
            part, parts = (t * ep // tp if ep <= tp else (replica * tp + t) % ep), ep
        elif split.how == "width":
            parts = max(1, tp // ep)
            part = t % parts
        else:
            part, parts = t, tp
        size = (
            math.ceil(Fraction(math.ceil(Fraction(n, 64)) * 64, parts))
            if split and split.how == "padded"
            else n // parts
        )
        found.append((part * size, min(n, (part + 1) * size)))
    return tuple(found)


@pytest.mark.parametrize("ways", [w for w in WAYS if "pp" not in w], ids=str)
@pytest.mark.parametrize("name", ["gemma-3-27b", "gemma-4-12b", "gemma-4-26b-a4b", "gemma-3n-e2b", "recurrentgemma-2b"])
def test_ranks_cover_each_tensor_once(name, ways):
    """Brute force: the different boxes of a tensor do not overlap, and together are all of it."""
    rows, parallel = shared(name, ways)
    places = [(replica, t) for replica in range(parallel.dp) for t in range(parallel.tp)]
    mine = {id(e.rows): e for e in shard(rows, parallel).entries}
    for entry, weight, _ in stored(rows):
        if entry.in_tower or id(entry.rows) not in mine:
            continue
        boxes = {box(entry, weight.axes, parallel, place) for place in places}
        covered = sum(product(b - a for a, b in b_) for b_ in boxes)
        assert covered == entry.numel(weight), (entry.path, weight.name)
        fullest = max(product(b - a for a, b in b_) for b_ in boxes)
        assert mine[id(entry.rows)].numel(weight) >= fullest
        if "V" not in weight.axes and "Z" not in weight.axes:
            assert mine[id(entry.rows)].numel(weight) == fullest


def test_kv_heads_by_kind_of_layer():
    """Gemma 4 12B at tp 8: of 8 local heads each rank has one, and all have the one global head."""
    rows = shard(ledger(SPECS["gemma-4-12b"]), Parallel(tp=8), 5)
    assert {(e.kind, e.sizes["N"], e.sizes["K"], e.sizes["G"]) for e in rows.entries if e.path == "attention"} == {
        ("local", 2, 1, 2), ("global", 2, 1, 2),
    }  # fmt: skip
    extra = replicated(ledger(SPECS["gemma-4-12b"]), Parallel(tp=8), load_precision("bf16"))
    assert {e.path: e.replicated > 0 for e in extra if e.path in ("attention.k", "attention.q")} == {
        "attention.k": True, "attention.q": False,
    }  # fmt: skip


def test_rows_of_tables_are_padded():
    """262,208 rows are 4,097 blocks of 64; 262,145 at tp 4 are padded to 262,208."""
    assert 262208 == 64 * 4097
    spec = archlab.load("gemma-3-1b", {"vocab_size": 262145})
    rows = shard(ledger(spec), Parallel(tp=4))
    assert next(e for e in rows.entries if e.path == "embedding").sizes["V"] == 65552
    assert next(e for e in rows.entries if e.path == "head").sizes["V"] == 65552


@pytest.mark.parametrize(
    ("n_layers", "pp", "counts"),
    [(32, 4, [8, 8, 8, 8]), (22, 4, [5, 6, 6, 5]), (5, 3, [2, 2, 1]), (4, 3, [1, 2, 1]), (3, 2, [2, 1])],
)
def test_stages_are_those_of_vllm(n_layers, pp, counts):
    """vLLM's tests/distributed/test_pipeline_partition.py has such cases."""
    rows = ledger(archlab.load("gemma-2b", {"n_layers": n_layers}))
    assert [len(span) for span in stages(rows, pp)] == counts


@pytest.mark.parametrize("name", ["gemma-3n-e2b", "gemma-3n-e4b", "gemma-4-e2b", "gemma-4-e4b"])
@pytest.mark.parametrize("pp", [2, 3, 4])
def test_readers_of_shared_keys_stand_with_their_source(name, pp):
    rows = ledger(archlab.load(name))
    spans = stages(rows, pp)
    assert [i for span in spans for i in span] == list(range(rows.spec.n_layers)) and all(spans)
    assert sources(rows)
    for reader, source in sources(rows).items():
        assert any(reader in span and source in span for span in spans)


def test_a_context_is_shared_and_a_window_is_not():
    rows = ledger(SPECS["gemma-3-27b"], Workload(context=100_001))
    mine = shard(rows, Parallel(cp=4))
    slots = {e.kind: e.slots(e.rows.states["k"], 100_001) for e in mine.entries if e.path == "attention"}
    assert slots == {"local": 1024, "global": 25_001}


def test_positions_are_those_of_the_whole_model():
    """Q4_K_M's mix depends on a layer's place; a stage knows it."""
    spec, precision = archlab.load("gemma-2-9b"), load_precision("q4_k_m")
    rows = ledger(spec)
    parts = [r.rows for r in ranks(rows, Parallel(pp=3))]
    table = next(e for e in rows.entries if e.path == "embedding")
    twice = precision.weight_bits(rows, table, table.rows.weights["table"])
    assert sum(weight_bits(part, precision) for part in parts) == weight_bits(rows, precision) + twice


@settings(deadline=None, max_examples=40)
@given(
    tp=st.integers(1, 16),
    pp=st.integers(1, 6),
    cp=st.integers(1, 4),
    dp=st.integers(1, 4),
    name=st.sampled_from(FAMILIES),
)
def test_any_ranks_add_up_or_are_refused(tp, pp, cp, dp, name):
    rows, precision = ledger(SPECS[name], workload(SPECS[name])), load_precision("bf16")
    parallel = Parallel(tp=tp, pp=pp, cp=cp, dp=dp)
    try:
        each = ranks(rows, parallel)
    except ArchlabError as wrong:
        assert "\n" not in str(wrong)
        return
    extra = replicated(rows, parallel, precision)
    for part, bits in (("weights", weight_bits), ("kv_cache", cache_bits)):
        beyond = 8 * sum(e.replicated + e.padding for e in extra if e.part == part)
        assert sum(bits(rank.rows, precision) * rank.count for rank in each) - beyond == bits(rows, precision)


def test_columns_are_masked_and_agree_with_their_points():
    values = [1, 2, 3, 4, 8]
    spec = SPECS["gemma-4-26b-a4b"]
    parallel = Parallel(tp=column(values))
    mask = np.logical_and.reduce([np.broadcast_to(c, len(values)) for c, _ in parallel.rules(spec)])
    bits = np.broadcast_to(weight_bits(ranks(ledger(spec), parallel)[0].rows, load_precision("bf16")), len(values))
    for at, tp in enumerate(values):
        try:
            alone = weight_bits(ranks(ledger(spec), Parallel(tp=tp))[0].rows, load_precision("bf16"))
        except ArchlabError:
            assert not mask[at]
            continue
        assert mask[at] and bits[at] == alone


@pytest.mark.parametrize(
    ("name", "ways", "words"),
    [
        ("gemma-3-1b", {"tp": 8}, r"attention: n_heads \(4\) must be a multiple of tp \(8\); 4 would do"),
        ("gemma-3-1b", {"tp": 3}, "2 or 4 would do"),
        ("gemma-2b", {"pp": 19}, "pp=19 must not exceed the 18 layers"),
        ("gemma-4-e2b", {"pp": 20}, "pp=14 is the most"),
        ("gemma-4-26b-a4b", {"tp": 4, "ep": 3}, r"ep \(3\) must divide tp x dp \(4\)"),
        ("gemma-3-27b", {"tp": 8, "dcp": 2}, r"dcp \(2\) must divide the 1 ranks that hold the same K/V heads"),
        ("gemma-2b", {"tp": 0}, "parallel.tp=0 must be a whole number from 1 to 65,536"),
    ],
)
def test_what_cannot_be_shared_is_a_sentence(name, ways, words):
    with pytest.raises(ArchlabError, match=words):
        ranks(ledger(SPECS[name]), Parallel(**ways))


def test_stages_need_a_plain_number_of_layers():
    spec = archlab.load("gemma-2b", {"n_layers": column([4, 8])})
    with pytest.raises(ArchlabError, match="one number, not a column"):
        ranks(ledger(spec), Parallel(pp=2))


@pytest.mark.parametrize(
    "ways", [{"tp": 4}, {"tp": 4, "ep": 4}, {"tp": 4, "ep": 2}, {"tp": 2, "dp": 4, "ep": 8}], ids=str
)
def test_experts_do_a_share_of_the_work(ways):
    """However experts are shared, a rank does 1 / tp of its replica's products, routers apart."""
    work = Workload(2, context=64)
    rows, parallel = ledger(SPECS["gemma-4-26b-a4b"], work), Parallel(**ways)
    flops = []
    for part in (rows, shard(rows, parallel)):
        entry = next(e for e in part.entries if e.part == "moe" and "gate" in e.rows.weights)
        products = [op for op in entry.rows.ops if {o.name for o in op.line.weights} & {"gate", "up", "down"}]
        flops.append(sum(op.flops(entry.sizes) for op in products))
    assert flops[0] == parallel.tp * flops[1]
