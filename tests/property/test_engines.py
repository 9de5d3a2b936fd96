"""Engines: columns equal scalars, never less than what is needed, never less for more, and the limits agree."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import archlab
from archlab.engines import ENGINES, load_engine
from archlab.engines.base import Engine
from archlab.engines.llama_cpp import TYPES
from archlab.engines.runtime import overheads
from archlab.engines.vllm import DTYPES, available, pool
from archlab.errors import ArchlabError, SpecError
from archlab.fields import fields_of
from archlab.hardware import load_hardware
from archlab.ledger import ledger
from archlab.parallel import Parallel
from archlab.precision import cache_precision, load_precision
from archlab.workload import Workload

FAMILIES = ["gemma-2b", "gemma-2-2b", "gemma-3-4b", "gemma-3-1b", "gemma-3n-e2b", "gemma-4-26b-a4b", "gemma-4-12b",
            "gemma-4-e4b", "recurrentgemma-2b", "t5gemma-2-270m-270m", "t5gemma-2b-2b", "llama-3.1-8b", "gpt2-xl"]  # fmt: skip
OPTIONS = [
    ("hf", {}), ("hf", {"static": False}),
    ("vllm", {}), ("vllm", {"block_size": 64, "max_num_batched_tokens": 100}), ("vllm", {"async_scheduling": True}),
    ("vllm", {"disable_hybrid_kv_cache_manager": True}), ("vllm", {"kv_cache_dtype": "fp8_per_token_head"}),
    ("llama_cpp", {}), ("llama_cpp", {"unified": True}), ("llama_cpp", {"swa_full": True}),
    ("llama_cpp", {"flash_attn": False}), ("llama_cpp", {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}),
    ("llama_cpp", {"swa_f16": True, "n_ubatch": 7}),
]  # fmt: skip
AS_WIDE = [(name, o) for name, o in OPTIONS if "kv_cache_dtype" not in o and "cache_type_k" not in o]
CONTEXTS = st.integers(1, 200_000)
BATCHES = st.integers(1, 300)


def engines(pairs=OPTIONS):
    return st.sampled_from(pairs).map(lambda pair: load_engine(*pair))


def source_of(spec, context):
    return context if spec.encoder is not None else 0


def total(spec, work, engine):
    for condition, sentence in engine.rules(work):
        if condition is False:
            raise SpecError(sentence())
    return sum(item.bytes for item in engine.cache(ledger(spec), work, cache_precision("bf16")))


def whole(spec, context, batch):
    context = min(context, 1024) if spec.name == "gpt2-xl" else context
    return Workload(batch, context=context, source=source_of(spec, context))


@settings(deadline=None)
@given(
    name=st.sampled_from(FAMILIES),
    engine=engines(),
    sizes=st.lists(st.tuples(BATCHES, CONTEXTS), min_size=2, max_size=5),
)
def test_columns_equal_scalars(name, engine, sizes):
    spec = archlab.load(name)
    sizes = [(b, min(c, 1024) if name == "gpt2-xl" else c) for b, c in sizes]
    batch, context = np.array(sizes).T.astype(float)
    columns = total(spec, Workload(batch, context=context, source=source_of(spec, context)), engine)
    alone = [total(spec, whole(spec, c, b), engine) for b, c in sizes]
    assert [float(x) for x in alone] == list(columns + np.zeros(len(sizes)))


@pytest.mark.slow
@settings(deadline=None)
@given(
    name=st.sampled_from(["gemma-2-2b", "gemma-3-4b", "gemma-4-26b-a4b"]), engine=engines(), context=CONTEXTS,
    changed=st.sampled_from([
        ("n_layers", st.integers(1, 90)), ("local.window", st.integers(1, 9000)),
        ("head_dim", st.integers(1, 64).map(lambda n: 32 * n)), ("n_kv_heads", st.sampled_from([1, 2, 4])),
    ]).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.lists(pair[1], min_size=2, max_size=5))),
)  # fmt: skip
def test_columns_of_a_model_equal_scalars(name, engine, context, changed):
    key, values = changed
    data = archlab.load(name).data
    if key in ("head_dim", "n_kv_heads"):
        section = "local" if key in data.get("local", {}) else "attention"
        key = f"{section}.{key}"
    work = Workload(2, context=context)
    columns = total(archlab.load(name, {key: np.array(values, float)}), work, engine)
    alone = [total(archlab.load(name, {key: value}), work, engine) for value in values]
    assert [float(x) for x in alone] == list(columns + np.zeros(len(values)))


@settings(deadline=None)
@given(name=st.sampled_from(FAMILIES), engine=engines(AS_WIDE), context=CONTEXTS, batch=BATCHES)
def test_never_less_than_needed(name, engine, context, batch):
    spec = archlab.load(name)
    work = whole(spec, context, batch)
    assert total(spec, work, engine) >= total(spec, work, load_engine("ideal"))


@settings(deadline=None)
@given(name=st.sampled_from(FAMILIES), engine=engines(), context=CONTEXTS, batch=BATCHES, more=st.integers(1, 5000))
def test_never_less_for_more(name, engine, context, batch, more):
    spec = archlab.load(name)
    less = total(spec, whole(spec, context, batch), engine)
    assert less <= total(spec, whole(spec, context + more, batch), engine)
    assert less <= total(spec, whole(spec, context, batch + more), engine)


@settings(deadline=None)
@given(name=st.sampled_from(FAMILIES), engine=engines(), context=CONTEXTS, batch=BATCHES, more=st.integers(1, 5000))
def test_steps_do_not_shrink(name, engine, context, batch, more):
    """Each step of a larger workload has as many tokens, sequences and rows of logits, and is one that the model takes."""
    spec = archlab.load(name)

    def sizes(work):
        steps = engine.steps(spec, work)
        for step in steps:
            spec.admit(step)
        return [(s.batch * s.new, s.batch * s.logit_rows, s.context) for s in steps]

    for larger in (whole(spec, context + more, batch), whole(spec, context, batch + more)):
        for small, large in zip(sizes(whole(spec, context, batch)), sizes(larger), strict=True):
            assert all(a <= b for a, b in zip(small, large, strict=True))


@given(
    engine=engines([(n, o) for n, o in AS_WIDE if n != "vllm"]), context=st.integers(1, 20_000), batch=st.integers(1, 9)
)
def test_a_window_that_sees_all_is_none(engine, context, batch):
    wide = archlab.load("gemma-3-4b", {"local.window": 30_000})
    none = archlab.load("gemma-3-4b", {"local.window": None})
    work = Workload(batch, context=context)
    assert total(wide, work, engine) == total(none, work, engine)


@given(context=st.integers(1, 20_000))
def test_vllm_has_a_block_to_spare_in_a_window(context):
    """Which is all that a window beyond the context costs: a block in each sliding layer, and padding layers."""
    wide = archlab.load("gemma-3-4b", {"local.window": 30_000})
    none = archlab.load("gemma-3-4b", {"local.window": None})
    blocks, page = -(-context // 16), 16 * 2 * 4 * 256 * 2
    flat = archlab.kv_cache(none, context, engine="vllm").total
    assert flat == 34 * blocks * page
    assert archlab.kv_cache(wide, context, engine="vllm").total == flat + 29 * page + (blocks + 1) * page


@given(name=st.sampled_from(["gemma-2b", "llama-3.1-8b", "vaultgemma-1b"]), context=CONTEXTS, batch=BATCHES)
def test_one_type_of_layer_is_flat(name, context, batch):
    spec, work = archlab.load(name), Workload(batch, context=context)
    flat = total(spec, work, load_engine("vllm", {"disable_hybrid_kv_cache_manager": True}))
    assert flat == total(spec, work, load_engine("vllm"))
    assert flat == total(spec, Workload(batch, context=-(-context // 16) * 16), load_engine("ideal"))


@given(
    name=st.sampled_from(["gemma-2-9b", "gemma-3-4b", "gemma-4-31b", "gemma-4-12b"]),
    n=st.integers(1, 60_000),
    length=CONTEXTS,
)
def test_a_pool_holds_what_it_says(name, n, length):
    """As many requests as the concurrency says take no more than the pool; one more would."""
    spec = archlab.load(name)
    found = pool(spec, n * 2**20, length)
    assume(found.num_blocks > 0)
    one = archlab.kv_cache(spec, length, engine="vllm").total
    assert one == found.blocks_per_request * found.block_bytes
    fit = int(found.concurrency)
    assert fit * one <= found.num_blocks * found.block_bytes < (fit + 1) * one
    assert found.num_blocks * found.block_bytes <= n * 2**20


def test_a_sharded_rank_has_its_own_heads():
    """Pages follow the ledger that the engine is given."""
    from dataclasses import replace

    spec = archlab.load("gemma-3-4b")
    rows = ledger(spec)
    half = replace(rows, entries=tuple(
        replace(e, sizes={**e.sizes, "K": e.sizes["K"] // 2}) if "K" in e.sizes else e for e in rows.entries
    ))  # fmt: skip
    assert pool(spec, 2**34, 4096, rows=half).block_bytes * 2 == pool(spec, 2**34, 4096).block_bytes
    for name in ENGINES:
        whole_cache, rank = (
            sum(i.bytes for i in load_engine(name).cache(r, Workload(2, context=3000), cache_precision("bf16")))
            for r in (rows, half)
        )
        assert rank * 2 == whole_cache


BAD = [
    ("vllm", {"block_size": 24}, {}, "must be a multiple of 16"),
    ("vllm", {"gpu_memory_utilization": 1.5}, {}, "is a share, at most 1"),
    ("vllm", {"max_model_len": 100}, {}, "must not be below context=4096"),
    ("vllm", {"max_num_seqs": 2}, {"batch": 4}, "must not be below batch=4"),
    ("vllm", {"max_num_seqs": 64, "max_num_batched_tokens": 32}, {}, "must not be below max_num_seqs=64"),
    ("vllm", {"kv_cache_dtype": "fp9"}, {}, "did you mean"),
    ("vllm", {"blocksize": 16}, {}, "did you mean 'block_size'"),
    ("vllm", {}, {"precision": "q8_0"}, "cannot keep its cache in q8_0"),
    ("llama_cpp", {"n_seq": 2}, {"batch": 4}, "must not be below batch=4"),
    ("llama_cpp", {"cache_type_k": "q8"}, {}, "did you mean 'q8_0'"),
    ("llama_cpp", {"cache_type_v": "q8_0", "flash_attn": False}, {}, "need flash_attn=true"),
    ("llama_cpp", {}, {"precision": "fp8"}, "cannot keep its cache in fp8"),
    ("llama_cpp", {"n_ubatch": 0}, {}, "a whole number of 1 or more"),
    ("vllm", {"block_size": 17}, {}, "block_size=17 of engine vllm must be a multiple of 16; 16 or 32 would do"),
    ("vllm", {"block_size": 7}, {}, "must be a multiple of 16; 16 would do"),
    ("vllm", {"block_size": 0}, {}, "^block_size=0 of engine vllm must be a whole number"),
    ("vllm", {"blocksize": 16}, {}, "^unknown option blocksize of engine vllm; did you mean 'block_size'"),
    ("vllm", {"max_num_seqs": 9000}, {}, "max_num_batched_tokens=8192 of engine vllm must not be below"),
    ("vllm", {}, {"precision": "q8_0"}, "nearest is 'fp8'"),
    ("llama_cpp", {}, {"precision": "fp8"}, "nearest is 'q8_0'"),
    ("llama_cpp", {}, {"precision": "awq"}, "engine llama_cpp cannot run precision awq"),
    ("vllm", {}, {"precision": "q4_k_m"}, "engine vllm cannot run precision q4_k_m"),
    ("hf", {}, {"precision": "fp8"}, "cannot keep its cache in fp8; nearest is 'bf16'"),
    ("VLLM", {}, {}, "did you mean 'vllm'"),
    (["vllm"], {}, {}, "must be a name, one of ideal, hf, vllm, llama_cpp"),
    (load_engine("vllm"), {"blocksize": 16}, {}, "unknown option blocksize of engine vllm"),
    ("hf", {"attn_implementation": "flash"}, {}, "must be one of sdpa, eager"),
    ("hf", {}, {"precision": "q4_0"}, "cannot keep its cache in q4_0"),
    ("vlm", {}, {}, "did you mean 'vllm'"),
]


@pytest.mark.parametrize(("name", "options", "asked", "sentence"), BAD)
def test_nonsense_is_refused_in_a_sentence(name, options, asked, sentence):
    with pytest.raises(ArchlabError, match=sentence) as problem:
        archlab.kv_cache(archlab.load("gemma-3-1b"), 4096, engine=name, **asked, **options)
    assert "\n" not in str(problem.value)


NO_POOL = [
    (lambda spec: pool(spec, "x"), "available='x' must be a number of bytes"),
    (lambda spec: pool(spec, None), "available=None must be a number of bytes"),
    (lambda spec: pool(spec, float("nan")), "available=nan must be a number of bytes"),
    (lambda spec: pool(spec, -5), "available=-5 must be a number of bytes, 0 or more"),
    (lambda spec: pool(spec, True), "available=True must be a number of bytes"),
    (lambda spec: pool(spec, np.array([1e9, -1.0])), "must be a number of bytes, 0 or more"),
    (lambda spec: pool(spec, 2**30, 0), "context=0"),
    (lambda spec: available(1e9, 0, 0, 92), "gpu_memory_utilization=92 must be a share"),
    (lambda spec: available(1e9, 0, 0, 0), "gpu_memory_utilization=0 must be a share"),
    (lambda spec: available("80 GB", 0, 0), "capacity='80 GB' must be a number of bytes"),
    (lambda spec: available(1e9, -1, 0), "peak_torch=-1 must be a number of bytes"),
]


@pytest.mark.parametrize(("asked", "sentence"), NO_POOL)
def test_a_pool_of_nonsense_is_refused_in_a_sentence(asked, sentence):
    with pytest.raises(SpecError) as problem:
        asked(archlab.load("gemma-3-1b"))
    assert sentence in str(problem.value) and "\n" not in str(problem.value)


def test_pools_of_a_column_of_bytes():
    spec, room = archlab.load("gemma-3-4b"), available(np.array([2e10, 8e10]), 9e9, 5e8)
    found = pool(spec, room, 4096)
    assert list(found.num_blocks) == [pool(spec, float(n), 4096).num_blocks for n in room]
    assert pool(spec, np.int64(2**33), 4096).num_blocks == pool(spec, 2**33, 4096).num_blocks


def test_options_beside_an_engine_are_applied_to_it():
    spec, small = archlab.load("gemma-3-4b"), load_engine("vllm", {"max_num_batched_tokens": 2048})
    asked = {"context": 32768, "engine": small}
    assert archlab.kv_cache(spec, **asked).total < archlab.kv_cache(spec, **asked, async_scheduling=True).total
    assert load_engine(small, {"block_size": 32}).max_num_batched_tokens == 2048
    assert load_engine(small) is small


def test_options_of_numpy_are_numbers():
    engine = load_engine("vllm", {"block_size": np.int64(32), "gpu_memory_utilization": np.float64(0.5)})
    assert engine == load_engine("vllm", {"block_size": 32, "gpu_memory_utilization": 0.5})
    assert type(engine.block_size) is int and type(load_engine("llama_cpp", {"n_ubatch": np.int32(8)}).n_ubatch) is int


CACHES = [
    ("ideal", {}, "fp8", None, "fp8"),
    ("vllm", {}, "bf16", None, "bf16"),
    ("vllm", {"kv_cache_dtype": "fp8_e5m2"}, "bf16", "fp8", "fp8"),
    ("llama_cpp", {}, "q8_0", None, "q8_0"),
    ("llama_cpp", {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, "bf16", "q8_0", "q8_0"),
    ("llama_cpp", {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}, "bf16", "k q8_0, v q4_0", "k q8_0, v q4_0"),
    ("llama_cpp", {"cache_type_v": "q4_0"}, "fp16", "v q4_0", "k fp16, v q4_0"),
    ("llama_cpp", {"swa_f16": True}, "q8_0", None, "q8_0, sliding layers fp16"),
]


@pytest.mark.parametrize(("name", "options", "kv", "given_format", "words"), CACHES)
def test_an_engine_says_what_its_cache_is_kept_in(name, options, kv, given_format, words):
    engine = load_engine(name, options)
    assert (engine.kv_given, engine.cache_words(cache_precision(kv))) == (given_format, words)


STEPS = {
    "rtx-4090": 2048, "l40s": 2048, "a100-40-sxm": 2048, "a100-80-sxm": 2048, "a100-80-pcie": 2048, "h100-sxm": 8192,
    "h100-nvl": 8192, "h200-sxm": 8192, "mi300x": 8192, "mi250x": 2048, "tpu-v4": 2048, "tpu-v6e": 1024,
}  # fmt: skip
"""max_num_batched_tokens of a vLLM server unless told: get_batch_defaults of vllm/engine/arg_utils.py."""


@pytest.mark.parametrize("device", STEPS)
def test_a_step_of_vllm_is_as_large_as_its_device_lets_it(device):
    engine = load_engine("vllm")
    assert engine.step_tokens == 8192 and engine.max_num_batched_tokens is None
    assert engine.on(load_hardware(device)).max_num_batched_tokens == STEPS[device]
    told = load_engine("vllm", {"max_num_batched_tokens": 4096})
    assert told.on(load_hardware(device)) is told


def test_other_engines_are_the_same_on_every_device():
    for name in ("ideal", "hf", "llama_cpp"):
        engine = load_engine(name)
        assert engine.on(load_hardware("t4")) is engine


def test_the_profile_run_holds_rows_of_logits_for_max_num_seqs():
    spec, work = archlab.load("gemma-3-1b"), Workload(2, context=512)
    decode = load_engine("vllm", {"max_num_seqs": 256}).steps(spec, work)[-1]
    assert decode.batch * decode.logit_rows == 256
    assert load_engine("vllm").steps(spec, work)[-1].batch == 2
    few, many = (archlab.memory(spec, work, "l4", engine="vllm", max_num_seqs=n) for n in (2, 2048))
    assert few.by_part["activations"] < many.by_part["activations"]
    assert few.by_part["kv_cache"] == many.by_part["kv_cache"]


RUNS = [
    ("vllm", "h100-sxm", "bf16", []),
    ("vllm", "m4-max-128", "bf16", ["does not run on the GPU of m4-max-128", "what the process takes besides"]),
    ("vllm", "t4", "bf16", ["refuses bf16 on t4"]),
    ("vllm", "v100-32", "fp8", ["refuses bf16 on v100-32", "has no fp8 rate"]),
    ("vllm", "t4", "fp16", []),
    ("vllm", "jetson-agx-orin-64", "bf16", []),
    ("vllm", "a100-80-sxm", "fp8", ["a100-80-sxm has no fp8 rate"]),
    ("vllm", "mi300x", "bf16", ["the context of the process is not known for vllm on mi300x"]),
    ("vllm", "tpu-v6e", "bf16", ["what the process takes besides is not known for vllm on tpu-v6e"]),
    ("llama_cpp", "t4", "q4_k_m", []),
    ("llama_cpp", "tpu-v5e", "bf16", ["has no backend for tpu-v5e", "what the process takes besides"]),
    ("llama_cpp", "gaudi3", "bf16", ["has no backend for gaudi3", "what the process takes besides"]),
    ("hf", "m4-16", "bf16", ["what the process takes besides is not known for hf on m4-16"]),
    ("ideal", "tpu-v5e", "bf16", []),
]


@pytest.mark.parametrize(("name", "device", "precision", "said"), RUNS)
def test_engines_say_what_is_open_on_a_device(name, device, precision, said):
    notes = load_engine(name).notes(load_hardware(device), load_precision(precision))
    assert len(notes) == len(said) and all(words in note for words, note in zip(said, notes, strict=True)), notes


def test_llama_cpp_says_that_towers_are_a_file_of_their_own():
    def notes(name):
        return load_engine("llama_cpp").notes(None, load_precision("bf16"), archlab.load(name))

    assert notes("gemma-3-1b") == () and "--mmproj" in notes("gemma-3-4b")[0]


def test_engines_say_by_which_ranks_they_split():
    ranks = set(fields_of(Parallel))
    assert all(set(engine.splits) <= ranks for engine in ENGINES.values())
    assert ENGINES["llama_cpp"].splits == ("pp",) and {"tp", "pp", "ep", "dp"} <= set(ENGINES["vllm"].splits)


@pytest.mark.parametrize("name", ["vllm", "llama_cpp"])
def test_servers_do_not_train(name):
    work = Workload(1, context=512, train=True)
    assert [s() for c, s in load_engine(name).rules(work) if c is False] == [
        f"engine {name} serves models and does not train them; engine=hf does"
    ]


@pytest.mark.parametrize("name", ENGINES)
def test_options_are_declared_with_a_default_and_a_line(name):
    engine = ENGINES[name]()
    assert isinstance(engine, Engine)
    assert set(fields_of(ENGINES[name])) == set(asdict(engine))
    for known, f in fields_of(ENGINES[name]).items():
        f.metadata["type"].check(known, f.default)


def test_names_of_cache_types_are_formats():
    for name in (*TYPES.values(), *filter(None, DTYPES.values())):
        assert cache_precision(name).kv == name


def test_overheads_name_their_source_and_know_their_device():
    """Runtime items: of the vendor's devices alone, more ranks never take less, an option does without."""
    nvidia, amd, mac = (load_hardware(n) for n in ("h100-sxm", "mi300x", "m4-max-128"))
    for engine in ("hf", "vllm", "llama_cpp"):
        items = overheads(engine, nvidia, 1)
        assert items and all(
            item.source and item.formula and item.basis in ("measured", "estimate", "assumed") for item in items
        )
        by_ranks = [sum(i.bytes for i in overheads(engine, nvidia, r)) for r in (1, 2, 3, 4, 8, 16)]
        assert by_ranks == sorted(by_ranks)
        assert not overheads(engine, mac, 1)
    kinds = {i.kind for i in overheads("vllm", amd, 2)}
    assert kinds == {"workspace", "allocator", "graphs", "communication"}
    assert {i.kind for i in load_engine("vllm", {"enforce_eager": True}).runtime(amd, 1, cache_precision("bf16"))} == {
        "workspace", "allocator",
    }  # fmt: skip
    workspace = {name: next(i.bytes for i in overheads("hf", load_hardware(name), 1) if i.kind == "workspace")
                 for name in ("h100-sxm", "rtx-4090")}  # fmt: skip
    assert workspace == {"h100-sxm": 33 * 2**20, "rtx-4090": int(9.125 * 2**20)}


def test_llama_cpp_keeps_tables_on_the_host_that_are_only_looked_up():
    """CPU_Mapped: the per-layer table and an untied token table; a tied one is on the device, being the head."""
    engine = load_engine("llama_cpp")

    def hosted(name):
        rows = ledger(archlab.load(name))
        return {
            f"{e.path}.{w.name}" for e in rows.entries for w in e.rows.weights.values() if engine.on_host(rows, e, w)
        }

    assert hosted("llama-3.1-8b") == {"embedding.table"}
    assert hosted("gemma-3-4b") == hosted("t5gemma-2-270m-270m") == set()
    assert hosted("gemma-4-e4b") == {"per_layer_embedding.table"}
    assert not load_engine("vllm").on_host(ledger(archlab.load("gemma-4-e4b")), *next(
        (e, w) for e in ledger(archlab.load("gemma-4-e4b")).entries for w in e.rows.weights.values()
    ))  # fmt: skip
