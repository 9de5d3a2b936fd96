"""The published facts on quality: exact values, gradings that stay visible, sentences that read, claims that stay wrong."""

import re

import pytest

import archlab
from archlab import evidence as module
from archlab.errors import SpecError, UnknownNameError
from archlab.evidence import KINDS, Source, evidence, evidence_axes, wrong_claims

FACTS = [fact for axis in evidence_axes() for fact in evidence(axis)]
BY_ID = {fact.id: fact for fact in FACTS}
FIELDS = {"d_model", "d_ff", "head_dim", "n_layers", "Q4_0", "D_to_H", "H_to_D", "func_flops", "optimal_Nv_predict"}
"""What may have an underscore in a sentence: archlab's own field names, a format, functions of a source."""

each = pytest.mark.parametrize("fact", FACTS, ids=BY_ID)

AXES = {
    "attention_heads": 5, "depth_width": 5, "window": 2, "local_global_ratio": 4, "long_context": 4, "kv_sharing": 7,
    "vocab": 5, "head_dim": 2, "moe_vs_dense": 4, "recurrent_vs_attention": 6, "quantisation": 4, "softcap": 2,
    "qk_norm": 3, "parallel_norm_placement": 2, "distillation": 3, "vision_resolution": 3,
}  # fmt: skip


def test_every_axis_has_its_facts():
    assert {axis: len(evidence(axis)) for axis in evidence_axes()} == AXES
    assert len(FACTS) == len(BY_ID) == 61


def test_exact_values():
    for name, label, value in (
        ("g2-gqa-vs-mha-9b", "GQA", 50.8),
        ("g2-wide-vs-deep-9b", "deep", 52.0),
        ("shazeer-mqa-1bw", "MQA of 8 heads of 128 and d_ff 9088", 30.2),
        ("ainslie-t5-mha-xxl", "GQA-8-XXL", [47.1, 0.28]),
        ("g2-window-at-inference", "window 1024", 1.64),
        ("tao-fV", "a", 0.00639222),
        ("tao-optimal-V", "7B", [62281, 67450, 59548]),
        ("griffin-table1", "Griffin 7B", [65.8, 39.3]),
        ("cla-3b", "H128 MQA with CLA2", 9.34),
        ("g4-ruler", "Gemma 3 27B", [91.1, 66.0, 8.6]),
        ("g3-table3", "27B", [54.0, 14.1, 15.3, 27.4, 18.7]),
        ("rybakov-softcap", "QK-norm", 10.84),
        ("prope-2b", "NoPE", [4.8594, 6.6429]),
    ):
        assert BY_ID[name].values[label] == value


def test_the_constants_of_the_vocabulary_are_those_that_archlab_computes_with():
    from archlab.text import english_web_text

    assert dict(BY_ID["tao-fV"].values) == dict(english_web_text().fit)


def test_what_gemma_is_said_to_be_is_what_the_presets_hold():
    heads = BY_ID["g1-mqa-2b-mha-7b"].values
    for size in ("2b", "7b"):
        attention = archlab.load(f"gemma-{size}").data["attention"]
        assert heads[f"key/value heads of the {size.upper()}"] == attention["n_kv_heads"]
        assert heads["head_dim of both"] == attention["head_dim"]
    caps = BY_ID["g2-softcap-values"].values
    gemma2 = archlab.load("gemma-2-9b").data
    assert (caps["attention"], caps["final"]) == (gemma2["attention"]["softcap"], gemma2["head"]["softcap"])


@each
def test_a_fact_is_one_sentence_that_names_source_year_and_grade(fact):
    said = fact.sentence
    assert said[0].isupper() or said[0].isdigit()
    assert said.endswith(f"; {KINDS[fact.kind]}).") and f"({fact.cited.cite}, {fact.year}" in said
    assert "\n" not in said and "None" not in said and set(re.findall(r"\w*_\w*", said)) <= FIELDS
    assert not re.search(r"\s\s|\s[,;:]|[,;:]\)|\(\)", said)
    assert said.count("(") == said.count(")")
    for label, value in fact.values.items():
        assert f"{label} " in said
        for entry in value if isinstance(value, list) else [value]:
            assert entry is None or (entry if isinstance(entry, str) else f"{entry:,}") in said


@each
def test_a_fact_says_where_it_can_be_checked(fact):
    assert fact.url.startswith("https://") and len(fact.cited.title) > 10 and 2019 <= fact.year <= 2026
    found = re.search(r"arXiv:(\d\d)(\d\d)\.\d{5}", fact.cited.title)
    if found:
        assert 0 <= fact.year - 2000 - int(found[1]) <= 1
    assert fact.reading.endswith(".") and (fact.caveat is None or fact.caveat.endswith("."))
    assert fact.near_primary == (fact.kind in ("recomputed", "report_text"))


def test_derived_numbers_of_the_readings():
    """What a reading computes from its values, computed again."""
    gqa = BY_ID["ainslie-t5-mha-xxl"].values
    assert round(gqa["MHA-XXL"][1] / gqa["GQA-8-XXL"][1], 1) == 5.4
    assert round(gqa["MHA-XXL"][1] / gqa["MQA-XXL"][1], 1) == 6.3
    cla = BY_ID["cla-1b-kv-frontier"].values
    assert round(100 * (cla["H128 MQA"][0] / cla["H128 MHA"][0] - 1), 1) == 3.0
    weights = BY_ID["g4-table3"].values
    assert 8 * weights["31B"][1] / 30.7 == pytest.approx(5.0, abs=0.05)
    griffin = BY_ID["griffin-table1"].values
    gains = [griffin[f"Griffin {a}"][0] - griffin[f"MQA {b}"][0] for a, b in (("1B", "1B"), ("3B", "3B"), ("7B", "6B"))]
    assert round(min(gains), 1) == 1.6 and round(max(gains), 1) == 2.8


def test_an_unknown_axis_is_met_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown axis 'attention_head' .*did you mean 'attention_heads'"):
        evidence("attention_head")


# ---------------------------------------------------------------- wrong claims


def test_the_wrong_claims_are_there():
    claims = {claim.claim: claim for claim in wrong_claims()}
    assert len(claims) == 16
    assert "QK-norm came with Gemma 3" in claims["Gemma 2 has QK-norm."].right
    assert claims["Gemma 1 2B and 7B have d_model 4096."].right == "2048 and 3072."
    assert all(c.right.endswith(".") and c.why.endswith(".") and c.evidence for c in claims.values())


def test_what_is_right_agrees_with_the_presets():
    def data(name):
        return archlab.load(name).data

    assert "qk_norm" not in data("gemma-2-9b")["attention"] and data("gemma-3-1b")["attention"]["qk_norm"]
    assert (data("gemma-2b")["d_model"], data("gemma-7b")["d_model"]) == (2048, 3072)
    assert (data("gemma-2b")["mlp"]["d_ff"], data("gemma-7b")["mlp"]["d_ff"]) == (16384, 24576)
    assert (data("gemma-7b")["vocab_size"], data("gemma-3-1b")["vocab_size"]) == (256000, 262144)
    assert data("gemma-3-1b")["context"] == data("gemma-3-270m")["context"] == 32768
    ratios = {name: data(f"gemma-4-{name}")["pattern"][0] for name in ("e2b", "e4b", "12b", "26b-a4b", "31b")}
    assert ratios == {"e2b": "local*4"} | dict.fromkeys(("e4b", "12b", "26b-a4b", "31b"), "local*5")
    shape = data("gemma-3-27b-text")
    assert shape["attention"]["n_heads"] * shape["attention"]["head_dim"] == 4096 != shape["d_model"]
    assert {archlab.load(name).data["mlp"]["activation"] for name in archlab.models() if name.startswith("gemma-")} == {
        "gelu_tanh"
    }


# ---------------------------------------------------------------- the file is checked


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "reported"}, "x.kind='reported' must be one of recomputed, report_text"),
        ({"source": "gema-2"}, "x.source='gema-2' must be a key of sources; did you mean 'gemma-2'?"),
        ({"values": {"a": [1, 2]}}, "x.values.a must have 0 entries"),
        ({"values": {}}, "x.values={} must be a table"),
        ({"score": 1}, "unknown key x.score"),
        ({"reading": ""}, "x.reading='' must be text"),
    ],
)
def test_a_fact_that_cannot_be(change, sentence):
    fact = BY_ID["g2-gqa-vs-mha-9b"]
    entry = {name: getattr(fact, name) for name in ("axis", "setting", "metric", "values", "model_size", "tokens")}
    entry |= {"id": "x", "source": "gemma-2", "kind": "report_text", "reading": "It is so."} | change
    sources = {"gemma-2": Source(title="t", cite="c", year=2024, url="u")}
    with pytest.raises(SpecError) as raised:
        module._fact(entry, sources)
    assert sentence in str(raised.value)
