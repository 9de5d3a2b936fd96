"""Counts, caches and FLOPs of the presets against publications and against what transformers builds and allocates."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml

import archlab
from archlab.errors import SpecError

HERE = Path(__file__).parent
PARAMETERS = json.loads((HERE / "parameters.json").read_text())["models"]
CACHES = json.loads((HERE / "kv_cache.json").read_text())["models"]
REPORTS = yaml.safe_load((HERE / "report_tables.yaml").read_text())

COMPONENT = {
    ("attention", "q"): "attn_q", ("attention", "k"): "attn_k", ("attention", "v"): "attn_v", ("attention", "o"): "attn_o",
    ("cross_attention", "q"): "cross_attn_q", ("cross_attention", "k"): "cross_attn_k",
    ("cross_attention", "v"): "cross_attn_v", ("cross_attention", "o"): "cross_attn_o",
    ("embedding", "embedding"): "token_embedding", ("embedding", "position"): "position_embedding", ("head", "head"): "head",
    ("embedding", "end_of_image"): "token_embedding_eoi",
    ("per_layer", "table"): "ple_table", ("per_layer", "project"): "ple_projections",
    ("per_layer", "gate"): "ple_projections", ("per_layer", "norm"): "ple_projections",
    ("moe", "router"): "moe_router", ("moe", "gate"): "moe_experts", ("moe", "up"): "moe_experts", ("moe", "down"): "moe_experts",
}  # fmt: skip
WHOLE = {"mlp": "mlp", "norm": "norms", "recurrent": "recurrent", "altup": "altup", "laurel": "laurel",
         "vision": "vision_tower", "audio": "audio_tower", "projector": "projector"}  # fmt: skip
PART = {component: part for (part, _), component in COMPONENT.items()} | {c: part for part, c in WHOLE.items()}
"""(part, role) -> the reference's component, parts that are one component whole; and back."""

SIZES = {
    "file": lambda p: p.checkpoint,
    "file_cut_off": lambda p: p.checkpoint // 10**7 * 10**7,
    "decoder": lambda p: sum(p.by_stack["decoder"].values()),
    "active": lambda p: p.active,
    "effective": lambda p: p.effective,
    "effective_3n": lambda p: p.effective - p.by_part["embedding"] + p.checkpoint - p.total,
    "without_tower": lambda p: p.total - p.by_part["vision"],
}
"""What a published size counts."""


def parts(components):
    """The reference's components, summed by part."""
    found = Counter()
    for component, count in components.items():
        found[PART[component]] += count
    return dict(found)


def test_every_preset_has_a_reference():
    assert set(archlab.models()) == set(PARAMETERS) == set(CACHES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_by_component(name):
    counted, reference = archlab.params(archlab.load(name)), PARAMETERS[name]
    components = Counter()
    for (part, role), count in counted.by_role.items():
        components[COMPONENT.get((part, role)) or WHOLE[part]] += count
    assert dict(components) == reference["components"]
    assert {counted.total, sum(counted.by_part.values())} == {reference["total"]}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_by_stack(name):
    reference = PARAMETERS[name]
    stacks = reference.get("by_stack", {"decoder": reference["components"]})
    counted = archlab.params(archlab.load(name)).by_stack
    assert counted == {stack: parts(components) for stack, components in stacks.items()}


@pytest.mark.parametrize("name", PARAMETERS)
def test_elements_of_the_released_file(name):
    counted, reference = archlab.params(archlab.load(name)), PARAMETERS[name]
    assert {counted.checkpoint, reference.get("hf_safetensors", counted.checkpoint)} == {reference["checkpoint"]}


@pytest.mark.parametrize("name", [name for name in PARAMETERS if "keras_hub" in PARAMETERS[name]])
def test_keras_hub_counts_the_same_once_it_is_said_what(name):
    """Of some models it counts other rows of the table, a second table, or what lies behind the transformer."""
    otherwise = PARAMETERS[name].get("keras_hub_counts", {})
    counted = archlab.params(archlab.load(name, otherwise.get("with")))
    assert counted.total + otherwise.get("adds", 0) == PARAMETERS[name]["keras_hub"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_active_and_effective_parameters(name):
    counted, reference = archlab.params(archlab.load(name)), PARAMETERS[name]
    text = sum(sum(parts.values()) for stack, parts in counted.by_stack.items() if stack in ("encoder", "decoder"))
    assert counted.active == reference.get("active", text)
    assert counted.effective == reference.get("effective", text)
    if "effective" in reference:
        assert counted.effective - counted.by_part["embedding"] == reference["effective_without_embedding"]


@pytest.mark.parametrize("name", REPORTS["sizes"])
def test_sizes_of_model_cards(name):
    counted = archlab.params(archlab.load(name))
    for what, printed in REPORTS["sizes"][name].items():
        digits = len(printed.partition(".")[2])
        assert f"{SIZES[what](counted) / 1e9:.{digits}f}" == printed


@pytest.mark.parametrize(("name", "context"), [(name, int(context)) for name in CACHES for context in CACHES[name]])
def test_kv_cache_equals_what_transformers_allocates(name, context):
    spec, reference = archlab.load(name), CACHES[name][str(context)]
    held = archlab.kv_cache(spec, context=context, source=context if spec.encoder else 0)
    assert held.total == reference["total"]
    for part in ("global", "local", "recurrent", "source"):
        assert held.by_part.get(part, 0) == reference.get(part, 0)


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
    report, counted = REPORTS["gemma3"][name], archlab.params(archlab.load(name))
    vision, projector = (counted.by_part.get(part, 0) for part in ("vision", "projector"))
    embedding = counted.by_part["embedding"] + projector
    assert round(vision / 1e6) == report["vision"]
    assert math.ceil(embedding / 1e6) == report["embedding"]
    assert round((counted.total - embedding - vision) / 1e6) == report["rest"]


@pytest.mark.parametrize("name", REPORTS["flops_8k"])
def test_prefill_flops(name):
    spec, reference = archlab.load(name), REPORTS["flops_8k"][name]
    all_rows = archlab.flops(spec, archlab.Workload(new=8192))
    last_row = archlab.flops(spec, archlab.Workload(new=8192, logits="last"))
    for computed, published in ((all_rows.total, "exact"), (all_rows.dense, "dense"), (last_row.total, "last")):
        assert float(f"{computed:.4e}") == reference[published]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_preset_takes_text_and_what_else_it_reads(name):
    """Images and a source cost FLOPs where they are new and none at the next token, but for the keys that it sees."""
    spec = archlab.load(name)
    text = archlab.flops(spec, archlab.Workload(new=1024))
    assert 0 < text.total <= text.dense
    if spec.encoder:
        both = archlab.flops(spec, archlab.Workload(new=1024, source=512))
        assert both.total > text.total
    if spec.vision and spec.vision.counted:
        with pytest.raises(SpecError, match="number"):
            archlab.flops(spec, archlab.Workload(new=1024, images=1))
    elif spec.vision:
        room = {"source": 4096} if spec.encoder else {}
        first = archlab.flops(spec, archlab.Workload(new=4096, images=1, **room))
        after = archlab.flops(spec, archlab.Workload(new=1, context=4096, images=1, **room))
        assert first.by_part["vision"] > 0 and first.by_part["projector"] > 0
        assert after.by_part["vision"] == after.by_part["projector"] == 0


def test_the_window_and_ratio_of_gemma_3_27b_save_what_the_report_shows():
    """Gemma 3 report, section 5.2: 5:1 and a 1,024 window hold about a sixth of all-global at 128k."""
    spec = archlab.load("gemma-3-27b-text")
    everything = archlab.kv_cache(archlab.load("gemma-3-27b-text", {"pattern": ["global"]}), context=131072).total
    assert archlab.kv_cache(spec, context=131072).total / everything == pytest.approx(1 / 6, abs=0.01)


def test_of_a_model_that_was_never_published_the_command_line_says_what_is_known(archlab_command):
    done = archlab_command("describe", "dolphingemma")
    assert done.code == 2 and done.out == "" and done.err.count("\n") == 1
    assert "never published" in done.err and "400M" in done.err and "SoundStream" in done.err
    assert "dolphingemma" not in archlab.models()
