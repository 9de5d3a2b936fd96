"""Formats against their definitions, precisions against the sizes of published files, and what a file may say."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import archlab
from archlab.algebra import column
from archlab.analyzers.params import weight_bytes
from archlab.assemble import resolve
from archlab.engines import ENGINES
from archlab.errors import ArchlabError, SpecError
from archlab.formats import FORMATS
from archlab.ledger import ledger, stored
from archlab.precision import (
    ENGINE_NAMES,
    cache_precision,
    load_precision,
    precision_from,
    precision_names,
    precision_words,
)
from archlab.schema import override

GB, GIB, MIB = 1e9, 2**30, 2**20

DEFINITIONS = {
    "q4_0": 4.5, "q4_1": 5.0, "q5_0": 5.5, "q5_1": 6.0, "q8_0": 8.5, "q2_k": 2.625, "q3_k": 3.4375, "q4_k": 4.5,
    "q5_k": 5.5, "q6_k": 6.5625, "iq4_xs": 4.25, "iq4_nl": 4.5, "iq3_s": 3.4375,
    "nf4": 4.5, "nf4_dq": 4.126953125, "gptq_g128": 4.15625, "gptq_g32": 4.625, "int4_g128": 4.125, "int4_g32": 4.5,
    "mlx_4": 4.5, "mlx_4_g32": 5.0, "mlx_8": 8.5, "mxfp4": 4.25, "nvfp4": 4.5, "fp8_block": 8.001953125,
    "bf16": 16, "fp16": 16, "fp32": 32,
}  # fmt: skip
"""Bits a weight: arithmetic of each layout (gguf 0.19.0 GGML_QUANT_SIZES, QLoRA, OCP MX, mlx docs), no evidence."""

# (precision, model, size, unit, tolerance): bytes of the decoder's tensors; a file adds about 10 MB of metadata
SEEN = {
    "llama-bench line of llama.cpp PR 13194": ("q4_k_m", "gemma-3-12b-text", 6.79, GIB, 0.005),
    "model card stduhpf/google-gemma-3-27b-it-qat-q4_0-gguf-small": (
        "gemma-qat-q4_0", "gemma-3-27b-text", 17.2, GB, 0.01,
    ),
    "the same card, the table in Q6_K": ("q4_0", "gemma-3-27b-text", 15.6, GB, 0.01),
    "model card Asystemoffields/gemma-4-E2B-it-PMRA-GGUF": ("q4_k_m", "gemma-4-e2b", 3.412, GB, 0.005),
    "model card dahus/gemma-4-e2b-it, Q4_K_S": ("q4_k_s", "gemma-4-e2b", 3.37, GB, 0.01),
    "model card dahus/gemma-4-e2b-it, Q5_K_S": ("q5_k_s", "gemma-4-e2b", 3.60, GB, 0.01),
    "model card dahus/gemma-4-e2b-it, Q5_K_M": ("q5_k_m", "gemma-4-e2b", 3.63, GB, 0.01),
    "model card dahus/gemma-4-e2b-it, Q8": ("q8_0", "gemma-4-e2b", 4.97, GB, 0.01),
}  # fmt: skip

# (model, precision, size in GB, tolerance): sizes that model cards give, written down from memory
RECALLED = [
    ("gemma-3-27b-text", "q4_k_m", 16.55, 0.02),
    ("gemma-3-27b-text", "q5_k_m", 19.27, 0.02),
    ("gemma-3-27b-text", "q8_0", 28.71, 0.02),
    ("gemma-3-27b-text", "iq4_xs", 14.77, 0.02),
    ("gemma-3-1b", "q4_k_m", 0.806, 0.01),  # rows of 1152: every Q4_K goes over to Q5_0
    ("gemma-3n-e4b", "q8_0", 7.35, 0.01),
    ("llama-3.1-8b", "q2_k", 3.18, 0.01),
    ("llama-3.1-8b", "q3_k_m", 4.02, 0.01),
    ("llama-3.1-8b", "q4_0", 4.66, 0.01),
    ("llama-3.1-8b", "q4_k_s", 4.69, 0.01),
    ("llama-3.1-8b", "q4_k_m", 4.92, 0.01),
    ("llama-3.1-8b", "q5_k_s", 5.60, 0.01),
    ("llama-3.1-8b", "q5_k_m", 5.73, 0.01),
    ("llama-3.1-8b", "q6_k", 6.60, 0.01),
    ("llama-3.1-8b", "q8_0", 8.54, 0.01),
    ("llama-3.1-8b", "iq4_xs", 4.45, 0.01),
    ("llama-3.1-8b", "awq", 5.7, 0.01),
    ("llama-3.1-8b", "gptq", 5.7, 0.01),
    ("llama-3.1-8b", "nf4-dq", 5.7, 0.01),
    ("llama-3.1-8b", "fp8", 9.1, 0.01),
]

# (model, precision, MiB): the buffer of the token table, as the log of llama.cpp prints it
TABLES = [
    ("gemma-4-31b", "q8_0", 1428.00),
    ("gemma-4-12b", "q6_k", 787.50),
    ("gemma-4-12b", "q4_k_m", 787.50),
    ("gemma-4-12b", {"bits": 4, "group": 32, "scales": 16}, 540.00),  # 4.5 bits
    ("gemma-2b", "q4_k_m", 410.16),  # llama.cpp PR 5650
    ("gemma-2b", "q8_0", 531.25),  # the same
]

GGUF = {"q2_k": 4, "q3_k_m": 5, "q4_0": 4, "q4_k_s": 5, "q4_k_m": 6, "iq4_xs": 5, "q5_k_s": 5, "q5_k_m": 6, "q6_k": 6,
        "q8_0": 8, "gemma-qat-q4_0": 4}  # fmt: skip
PLAIN = {"bf16": 16, "fp16": 16, "fp32": 32}
LINEARS = {"fp8": 8, "fp8-block": 8, "int4": 4, "int4-g32": 4, "int4-g64": 4, "awq": 4, "gptq": 4, "gptq-g32": 4,
           "mxfp4": 4, "nvfp4": 4}  # fmt: skip
BNB = {"int8": 8, "nf4": 4, "nf4-dq": 4}
TABLES_TOO = {"int4-row": 4, "mlx-4bit": 4, "mlx-8bit": 8}
WIDEST = {**GGUF, **PLAIN, **LINEARS, **BNB, **TABLES_TOO}
"""Precision -> bits of the widest format that a projection or an expert gets."""


def decoder_bytes(spec, precision):
    """Bytes of the decoder's tensors, as a file has them: those that nothing reads too, towers apart."""
    rows = ledger(spec)
    return sum(
        precision.weight_bits(rows, entry, weight)
        for entry in rows.entries
        for weight in entry.rows.weights.values()
        if weight.tied is None and entry.stack == "decoder"
    ) / 8  # fmt: skip


@pytest.mark.parametrize("name", DEFINITIONS)
def test_bits_of_formats_by_definition(name):
    assert FORMATS[name].bits_per_element == pytest.approx(DEFINITIONS[name], rel=1e-6)


def test_scales_of_rows_and_tensors():
    assert FORMATS["fp8_row"].matrix_bits(8, 256) == 8 * 256 * 8.125  # vLLM's fp8 per token and head, head_dim 256
    assert FORMATS["fp8"].matrix_bits(8, 256) == 8 * 256 * 8 + 32
    assert FORMATS["int8"].matrix_bits(3, 100) == 3 * (800 + 32)
    assert FORMATS["gptq_g128"].matrix_bits(2, 130) == 2 * (130 * 4 + 2 * 20)  # a short last group
    assert FORMATS["nf4"].matrix_bits(2, 96) == 2 * 96 * 4 + 3 * 32  # one line: the second group runs into row 2
    assert FORMATS["fp8_block"].matrix_bits(129, 129) == 129 * 129 * 8 + 4 * 32


@pytest.mark.parametrize("row", [640, 1152])
def test_rows_that_256_does_not_divide_fall_back(row):
    for name, other in {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "iq4_xs": "iq4_nl", "q3_k": "q4_0"}.items():
        assert FORMATS[name].matrix_bits(7, row) == FORMATS[other].matrix_bits(7, row)
    assert FORMATS["q4_k"].matrix_bits(7, 24) == 7 * 24 * 16  # nor does 32


@pytest.mark.parametrize("source", SEEN)
def test_files_that_were_looked_up(source):
    precision, model, size, unit, tolerance = SEEN[source]
    assert decoder_bytes(archlab.load(model), load_precision(precision)) / unit == pytest.approx(size, rel=tolerance)


@pytest.mark.parametrize(("model", "precision", "size", "tolerance"), RECALLED)
def test_files_from_memory(model, precision, size, tolerance):
    assert decoder_bytes(archlab.load(model), load_precision(precision)) / GB == pytest.approx(size, rel=tolerance)


@pytest.mark.parametrize(("model", "precision", "size"), TABLES)
def test_token_tables_on_the_host(model, precision, size):
    rows = ledger(archlab.load(model))
    given = precision if isinstance(precision, str) else own(weights=precision)
    entry, table, _ = next(found for found in stored(rows) if found[1].role == "embedding")
    bits = (load_precision(given)).weight_bits(rows, entry, table)
    assert bits / 8 / MIB == pytest.approx(size, abs=0.005)


def test_every_shipped_precision_is_audited():
    assert set(precision_names()) == set(WIDEST)


@pytest.mark.parametrize("name", WIDEST)
def test_every_weight_of_every_preset_gets_a_format_that_suits_it(name):
    precision = load_precision(name)
    for model in archlab.models():
        rows = ledger(archlab.load(model))
        for entry, weight, _ in stored(rows):
            found = [(form, n) for form, n in precision.formats(rows, entry, weight) if n]
            assert sum(n for _, n in found) == entry.count, (model, entry.path, weight.name)
            for form, _ in found:
                assert suits(name, entry, weight, form), (model, entry.path, weight.name, form.name)


def suits(name, entry, weight, form):
    """What is known of a precision's formats, said apart from its rules."""
    whole = form.bits >= 16
    if name in PLAIN:
        return form.name == name
    if weight.use == "vector":
        return form.name == ("fp32" if name in GGUF else "bf16")
    if entry.stack in ("vision", "audio"):
        return whole or name in BNB
    if name == "gemma-qat-q4_0" and weight.role in ("embedding", "table", "head"):
        return form.name == "fp16"
    if weight.role in ("embedding", "table", "head"):
        return whole == (name in LINEARS or name in BNB)
    if weight.role == "position":
        return whole or name.startswith("mlx")
    if weight.role in ("router", "conv", "decay_gate", "input_gate") or entry.part in ("altup", "laurel", "per_layer"):
        return form.bits <= WIDEST[name] or whole  # each engine its own; the tests of files above hold llama.cpp's
    return form.bits <= WIDEST[name]


def test_the_words_of_the_shipped_rules_are_those_of_the_rows():
    rows = [found for model in archlab.models() for found in stored(ledger(archlab.load(model)))]
    roles, parts = {weight.role for _, weight, _ in rows}, {entry.part_of(weight) for entry, weight, _ in rows}
    for name in WIDEST:
        for rule in load_precision(name).rules:
            assert set(rule.role) <= roles and set(rule.part) <= parts, (name, rule)


def test_blocks_declare_the_roles_that_their_rows_have():
    """Those of a precision's rules, which a file is held against when it is read."""
    known = precision_words()
    for model in archlab.models():
        spec = archlab.load(model)
        for stack in spec.stacks:
            for path, block, _ in stack.blocks():
                assert {weight.role for weight in block.weights()} <= set(block.roles), (model, path)
        for entry, weight, _ in stored(ledger(spec)):
            assert entry.part_of(weight) in known["part"] and weight.use in known["use"], (model, entry.path)


def test_no_role_is_declared_that_no_row_has():
    rows = [entry.rows for model in archlab.models() for entry in ledger(archlab.load(model)).entries]
    assert set(precision_words()["role"]) == {weight.role for own in rows for weight in own.weights.values()}


def test_engines_of_a_precision_are_those_that_there_are():
    assert set(ENGINE_NAMES) == set(ENGINES)


@pytest.mark.parametrize(("name", "meant"), [("Q4_K_M", "q4_k_m"), ("BF16", "bf16"), ("FP8", "fp8"), ("Awq", "awq")])
def test_precisions_are_found_in_capitals(name, meant):
    with pytest.raises(ArchlabError, match=f"did you mean '{meant}'"):
        load_precision(name)


def test_experts_are_quantised_as_matrices_of_their_own():
    rows = ledger(archlab.load("gemma-4-26b-a4b"))
    entry, down, _ = next(f for f in stored(rows) if f[1].routed is not None and f[1].role == "down")
    sizes = entry.sizes
    one = FORMATS["nvfp4"].matrix_bits(sizes["D"], sizes["F"])
    assert load_precision("nvfp4").weight_bits(rows, entry, down) == one * sizes["X"] * entry.count


def test_an_untied_table_is_not_the_head():
    rows = ledger(archlab.load("llama-3.1-8b"))
    found = {w.role: load_precision("q4_k_m").bits(rows, e, w) for e, w, _ in stored(rows) if e.kind == ""}
    assert found["embedding"] == 4.5
    assert found["head"] == 6.5625


def test_more_bits_for_half_of_the_layers():
    rows = ledger(archlab.load("llama-3.1-8b"))
    entry, value, _ = next(found for found in stored(rows) if found[1].role == "v")
    formats = {form.name: n for form, n in load_precision("q4_k_m").formats(rows, entry, value)}
    assert formats == {"q6_k": 16, "q4_k": 16}  # 4 + 4 + every third of the 24 between


def test_places_are_those_of_the_whole_model_on_a_rank_with_half_of_it():
    rows, precision = ledger(archlab.load("gemma-3-12b-text")), load_precision("q4_k_m")
    layers = [entry for entry in rows.entries if entry.indices is not None]
    first, second = (
        [
            replace(entry, count=len(own), indices=own)
            for entry in layers
            for own in [tuple(i for i in entry.indices if (i < 20) == early)]
        ]
        for early in (True, False)
    )
    whole, *halves = (
        sum(
            precision.weight_bits(replace(rows, entries=tuple(some)), e, w)
            for e in some
            for w in e.rows.weights.values()
        )
        for some in (layers, first, second)
    )
    assert sum(halves) == whole


MESHES = {
    "gemma-3-1b": {"mlp.d_ff": [640, 1152, 6912], "attention.head_dim": [64, 256], "attention.n_heads": [2, 4]},
    "llama-3.1-8b": {"attention.n_kv_heads": [1, 8, 16, 32], "d_model": [1152, 4096]},
    "gemma-4-26b-a4b": {"moe.d_ff": [640, 704, 768], "moe.experts": [8, 128]},
    "gemma-3-4b": {"vision.d_model": [640, 1152], "vision.mlp.d_ff": [4304, 4352]},
}


@pytest.mark.parametrize("name", WIDEST)
@pytest.mark.parametrize("model", MESHES)
def test_columns_of_weight_bytes_equal_scalars(model, name):
    spec, work, grid = archlab.load(model), archlab.Workload(context=128), MESHES[model]
    points = archlab.evaluate(spec, work, None, name, grid=grid)
    assert points.ok.any()
    check_points(points, model, name)


@pytest.mark.parametrize("name", ["q4_k_m", "q3_k_m", "iq4_xs", "bf16"])
def test_layers_are_walked_where_a_precision_asks_for_their_places(name):
    grid = {"n_layers": [3, 8, 13, 26], "mlp.d_ff": [1152, 2048]}
    points = archlab.evaluate(archlab.load("gemma-3-1b"), archlab.Workload(context=128), None, name, grid=grid)
    assert len(points.survey.written) == (4 if load_precision(name).by_position else 1)
    check_points(points, "gemma-3-1b", name)


def check_points(points, model, name):
    for position in np.ndindex(points.shape):
        if np.broadcast_to(points.ok, points.shape)[position]:
            alone = weight_bytes(archlab.load(model, points.at(position)), load_precision(name))
            assert math.ceil(points["weights_bytes"][position]) == alone


def test_a_column_of_layers_has_no_places():
    spec = archlab.load("gemma-3-1b")
    many = resolve(override(dict(spec.data), {"n_layers": column([13, 26])}))
    assert np.all(weight_bytes(many, load_precision("bf16")) > 0)
    with pytest.raises(SpecError, match="q4_k_m depends on where a layer stands: n_layers must be one number"):
        weight_bytes(many, load_precision("q4_k_m"))


def test_a_column_of_models_takes_each_its_own_rule():
    rules = [{"role": "v", "model": "gqa_4", "format": "q8_0"}, {"role": "v", "layers": "first_2", "format": "fp32"},
             {"format": "q4_0"}]  # fmt: skip
    precision = own(weights=rules)
    points = archlab.evaluate(
        archlab.load("llama-3.1-8b"), archlab.Workload(context=128), None, precision,
        grid={"attention.n_kv_heads": [4, 8, 16, 32]},
    )  # fmt: skip
    for position, n in enumerate([4, 8, 16, 32]):
        alone = weight_bytes(archlab.load("llama-3.1-8b", {"attention.n_kv_heads": n}), precision)
        assert points["weights_bytes"][position] == alone


def own(**keys):
    """A precision of a user's own."""
    return precision_from({"name": "own", "compute": "bf16", **keys})


def test_a_format_spelled_out():
    spec = archlab.load("gemma-3-27b-text")  # 64 divides every row of it
    mine = own(weights={"bits": 3, "group": 64, "scales": 32})
    assert weight_bytes(spec, mine) * 8 == archlab.params(spec).total * 3.5
    rules = [{"use": "vector", "format": "bf16"}, {"format": {"bits": 3, "row": 16}}]
    rows = ledger(spec)
    entry, down, _ = next(found for found in stored(rows) if found[1].role == "down")
    assert own(weights=rules).bits(rows, entry, down) == 3 + 16 / 21504


def test_the_cache_of_a_precision():
    spec = archlab.load("gemma-3-12b-text")
    plain = archlab.kv_cache(spec, 8192, precision="fp16").total
    assert archlab.kv_cache(spec, 8192, precision="q4_k_m").total == plain
    assert archlab.kv_cache(spec, 8192, precision="q8_0").total * 16 == plain * 8.5  # the cache's format, by its name
    assert cache_precision("q8_0").kv == "q8_0"


NONSENSE = {
    "unknown format": ({"weights": "q4_km"}, "unknown format 'q4_km'; did you mean 'q4_k'"),
    "unknown format in a rule": ({"weights": [{"format": "fp88"}]}, "unknown format 'fp88'; did you mean 'fp8'"),
    "a rule without a format": ({"weights": [{"role": "v"}, {"format": "bf16"}]}, "has no format"),
    "no rule for the rest": ({"weights": [{"role": "v", "format": "bf16"}]}, "last rule of precision own must be for"),
    "a last rule by places": ({"weights": [{"layers": "more_bits", "format": "bf16"}]}, "must be for all the rest"),
    "a last rule by model": ({"weights": [{"model": "tied", "format": "bf16"}]}, "must be for all the rest"),
    "a number": ({"weights": 16}, "weights=16"),
    "no rules": ({"weights": []}, "weights=[]"),
    "a rule that is a word": ({"weights": ["bf16"]}, "rule 'bf16' of precision own must have keys"),
    "unknown key": ({"weights": [{"rol": "v", "format": "bf16"}]}, "unknown key rol in a rule of precision own; did you"),
    "unknown place": (
        {"weights": [{"layers": "more_bit", "format": "bf16"}, {"format": "bf16"}]}, "did you mean 'more_bits'",
    ),
    "unknown kind of model": ({"weights": [{"model": "moe", "format": "bf16"}, {"format": "bf16"}]}, "one of tied, gqa_4"),
    "a place that is a list": (
        {"weights": [{"layers": ["more_bits"], "format": "bf16"}, {"format": "bf16"}]}, "layers=['more_bits']",
    ),
    "places and models": (
        {"weights": [{"layers": "first_2", "model": "tied", "format": "bf16"}, {"format": "bf16"}]}, "one of them",
    ),
    "a role that is a number": ({"weights": [{"role": 4, "format": "bf16"}, {"format": "bf16"}]}, "role=4"),
    "a format without bits": ({"weights": {"group": 32}}, "needs bits"),
    "a group of nothing": ({"weights": {"bits": 4, "group": 0}}, "group=0"),
    "scales of no group": ({"weights": {"bits": 4, "scales": 16}}, "scales=16 of a format needs group"),
    "a rule that is never reached": (
        {"weights": [{"format": "q4_0"}, {"role": "v", "format": "q6_k"}, {"format": "bf16"}]}, "none after it is reached",
    ),
    "unknown stack": ({"weights": [{"stack": "tower", "format": "bf16"}, {"format": "q4_0"}]}, "stack='tower'"),
    "unknown use": ({"weights": [{"use": "vectors", "format": "bf16"}, {"format": "q4_0"}]}, "did you mean 'vector'"),
    "a role that no block has": (
        {"weights": [{"role": "qq", "format": "q4_0"}, {"format": "bf16"}]}, "role='qq' in a rule of precision own",
    ),
    "a role misspelt": (
        {"weights": [{"role": "embeding", "format": "q4_0"}, {"format": "bf16"}]}, "did you mean 'embedding'",
    ),
    "a part that no block has": (
        {"weights": [{"part": "foo", "format": "q4_0"}, {"format": "bf16"}]}, "part='foo' in a rule of precision own",
    ),
    "a part misspelt": (
        {"weights": [{"part": ["mlp", "Atention"], "format": "q4_0"}, {"format": "bf16"}]}, "did you mean 'attention'",
    ),
    "too many bits": ({"weights": {"bits": 1000}}, "bits=1000 of a format must be at most 64"),
    "a tile of nothing": (
        {"weights": {"bits": 4, "group": 32, "tile": 0}}, "tile=0 of a format must be a whole number of 1 or more",
    ),
    "an engine misspelt": ({"weights": "bf16", "engines": ["ideal", "vlm"]}, "unknown engine 'vlm' in engines of pr"),
    "an engine in capitals": ({"weights": "bf16", "engines": ["VLLM"]}, "did you mean 'vllm'"),
    "a format in capitals": ({"weights": "Q4_K"}, "did you mean 'q4_k'"),
    "half a bit": ({"weights": {"bits": 4.5}}, "bits=4.5"),
    "unknown cache": ({"weights": "bf16", "kv": "q9_0"}, "unknown format 'q9_0'"),
    "a cache in bits": ({"weights": "bf16", "kv": 8}, "kv=8"),
    "unknown products": ({"weights": "bf16", "compute": "int3"}, "compute='int3'"),
    "a key too many": ({"weights": "bf16", "wieghts": "bf16"}, "wieghts"),
}  # fmt: skip


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_answered_in_a_sentence(case):
    keys, words = NONSENSE[case]
    with pytest.raises(ArchlabError) as refusal:
        own(**keys)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_users_file_on_the_command_line(archlab_command, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\nweights: [{format: q4_km}]\ncompute: bf16\n")
    refused = archlab_command("compare", "gemma-2b", "gemma-7b", "--precision", "./mine.yaml", "-o", "page.html")
    assert refused.code == 2
    assert "did you mean 'q4_k'" in refused.err and refused.err.count("\n") == 1


@pytest.mark.slow
def test_a_sweep_over_precisions_with_another_cache(archlab_command, tmp_path):
    words = ["-m", "model=gemma-3-1b", "model.n_layers=13,26", "precision=q4_k_m,bf16", "precision.kv=q8_0"]
    done = archlab_command("sweep", *words, "hardware=h100-sxm", "measure=never", "out=run")
    assert done.code == 0, done.err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {found["kv"] for found in run["precisions"].values()} == {"q8_0"}
    assert any(isinstance(found["weights"], list) for found in run["precisions"].values())
    frames = pd.concat(pd.read_parquet(p) for p in sorted((tmp_path / "run").glob("**/*.parquet")))
    spec = archlab.load("gemma-3-1b")
    sizes = set(frames["weights_bytes"].dropna())
    assert weight_bytes(spec, load_precision("q4_k_m")) in sizes
    assert weight_bytes(archlab.load("gemma-3-1b", {"n_layers": 13}), load_precision("q4_k_m")) in sizes
