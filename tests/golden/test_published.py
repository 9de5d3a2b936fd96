"""Counts, caches and FLOPs of the presets against publications and against what transformers allocates."""

import json
import math
from pathlib import Path

import pytest
import yaml

import archlab

HERE = Path(__file__).parent
PARAMETERS = json.loads((HERE / "parameters.json").read_text())["models"]
CACHES = json.loads((HERE / "kv_cache.json").read_text())["models"]
REPORTS = yaml.safe_load((HERE / "report_tables.yaml").read_text())

COMPONENT = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_o", "gate": "mlp", "up": "mlp", "down": "mlp",
             "norm": "norms", "embedding": "token_embedding"}  # fmt: skip


def test_every_preset_has_a_reference():
    assert set(archlab.models()) == set(PARAMETERS) == set(CACHES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_by_component(name):
    counted = archlab.params(archlab.load(name))
    components: dict[str, int] = {}
    for (_, role), count in counted.by_role.items():
        components[COMPONENT[role]] = components.get(COMPONENT[role], 0) + count
    reference = PARAMETERS[name]
    assert components == reference["components"]
    assert {counted.total, sum(counted.by_part.values())} == {reference["total"]}
    assert reference.get("hf_safetensors", counted.total) == reference.get("keras_hub", counted.total) == counted.total


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("context", [8192, 32768, 131072])
def test_kv_cache_equals_what_transformers_allocates(name, context):
    held = archlab.kv_cache(archlab.load(name), context=context)
    reference = CACHES[name][str(context)]
    assert held.total == reference["total"]
    assert held.by_part.get("global", 0) == reference["global"]
    assert held.by_part.get("local", 0) == reference["local"]


@pytest.mark.parametrize("name", REPORTS["gemma"])
def test_gemma_1_and_2_report_tables(name):
    """The reports count 256,128 rows; with the released 256,000 the embedding is 128 rows smaller, the rest equal."""
    report = REPORTS["gemma"][name]
    released = archlab.params(archlab.load(name))
    padded = archlab.params(archlab.load(name, {"vocab_size": 256128}))
    assert padded.by_part["embedding"] == report["embedding"]
    assert padded.total - padded.by_part["embedding"] == report["rest"]
    assert report["embedding"] - released.by_part["embedding"] == 128 * archlab.load(name).d_model


@pytest.mark.parametrize("name", REPORTS["gemma3"])
def test_gemma_3_report_table(name):
    report = REPORTS["gemma3"][name]
    counted = archlab.params(archlab.load(name, {"vocab_size": report["rows"]}))
    assert math.ceil((counted.by_part["embedding"] + report["projector"]) / 1e6) == report["embedding"]
    assert round((counted.total - counted.by_part["embedding"]) / 1e6) == report["rest"]


@pytest.mark.parametrize("name", REPORTS["flops_8k"])
def test_prefill_flops(name):
    spec, reference = archlab.load(name), REPORTS["flops_8k"][name]
    all_rows = archlab.flops(spec, archlab.Workload(new=8192))
    last_row = archlab.flops(spec, archlab.Workload(new=8192, logits="last"))
    for computed, published in ((all_rows.total, "exact"), (all_rows.dense, "dense"), (last_row.total, "last")):
        assert float(f"{computed:.4e}") == reference[published]


def test_the_window_and_ratio_of_gemma_3_27b_save_what_the_report_shows():
    """Gemma 3 report, section 5.2: 5:1 and a 1,024 window hold about a sixth of all-global at 128k."""
    spec = archlab.load("gemma-3-27b-text")
    everything = archlab.kv_cache(archlab.load("gemma-3-27b-text", {"pattern": ["global"]}), context=131072).total
    assert archlab.kv_cache(spec, context=131072).total / everything == pytest.approx(1 / 6, abs=0.01)
