"""config.json out: it reads back as the model, and transformers builds a model of the same tensors from it."""

import json

import pytest
import torch
import transformers
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nAudioEncoder, Gemma3nMultimodalEmbedder
from transformers.models.gemma4.modeling_gemma4 import Gemma4AudioModel

import archlab
from archlab.algebra import product
from archlab.errors import ArchlabError
from archlab.hf.configs import difference
from archlab.hf.families import WRITERS, naming_of
from archlab.hf.names import moves

PRESETS = [name for name in archlab.models() if archlab.load(name).family in WRITERS]
"""Those of families that have a config.json here: not the reference shapes of others."""
DISTINCT = list({archlab.load(name).stacks: name for name in reversed(PRESETS)}.values())[::-1]
"""Presets that differ: a fine-tuned model has its base's shape."""
NO_TIMM = ("gemma-3n-e2b", "gemma-3n-e4b")
"""Their vision tower is one of timm's, which the tests do without: tested as far as the audio tower."""


def built(config: dict) -> torch.nn.Module:
    """transformers' model on the meta device, of the class that the config names."""
    with torch.device("meta"):
        return getattr(transformers, config["architectures"][0])(transformers.AutoConfig.for_model(**config))


@pytest.mark.parametrize("name", PRESETS)
def test_export_then_import_is_the_identity(name):
    spec = archlab.load(name)
    config = archlab.hf.export_config(spec)
    assert json.loads(json.dumps(config)) == config
    back = archlab.hf.import_config(config)
    assert back.stacks == spec.stacks
    assert difference(spec, back) is None
    assert difference(spec, archlab.hf.import_config(transformers.AutoConfig.for_model(**config).to_dict())) is None


@pytest.mark.parametrize("name", [n for n in DISTINCT if n not in NO_TIMM])
def test_transformers_builds_the_same_tensors(name):
    """Each parameter and buffer of transformers has its row here, of the same shape, and the totals are equal."""
    spec = archlab.load(name)
    theirs = built(archlab.hf.export_config(spec))
    assert sum(p.numel() for p in theirs.parameters()) == archlab.params(spec).total
    names = naming_of(spec)
    towers = tuple(start for stack in spec.stacks if stack.counted for start in names.counted[stack.name])
    found = {key: tuple(t.shape) for key, t in theirs.state_dict().items() if not key.startswith(towers or ("-",))}
    rows = {move.theirs: move.shape for move in moves(spec, names) if move.weight.use != "unread"}
    assert rows == found


@pytest.mark.parametrize("name", NO_TIMM)
def test_the_text_decoder_of_gemma_3n(name):
    spec = archlab.load(name, {"vision": None, "audio": None})
    theirs = built(archlab.hf.export_config(spec))
    assert type(theirs).__name__ == "Gemma3nForCausalLM"
    assert sum(p.numel() for p in theirs.parameters()) == archlab.params(spec).total
    rows = {m.theirs: m.shape for m in moves(spec, naming_of(spec)) if m.weight.use != "unread"}
    assert rows == {key: tuple(t.shape) for key, t in theirs.state_dict().items()}


def counted(tower: str, config: dict) -> dict:
    return archlab.hf.import_config(config).data[tower]["counted"]


@pytest.mark.parametrize("changes", [{}, dict(hidden_size=96, conf_num_hidden_layers=3, conf_num_attention_heads=4,
                                              conf_conv_kernel_size=7, sscp_conv_channel_size=[24, 8], vocab_size=11)])  # fmt: skip
def test_the_audio_tower_of_gemma_3n_is_counted_right(changes):
    config = {"model_type": "gemma3n", "audio_config": changes}
    with torch.device("meta"):
        audio, text = transformers.Gemma3nAudioConfig(**changes), transformers.Gemma3nTextConfig()
        tower, embedder = Gemma3nAudioEncoder(audio), Gemma3nMultimodalEmbedder(audio, text)
    assert counted("audio", config)["parameters"] == sum(p.numel() for p in tower.parameters())
    assert counted("audio", config)["projector"] == sum(p.numel() for p in embedder.parameters())


@pytest.mark.parametrize("changes", [{}, dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=4,
                                              conv_kernel_size=7, subsampling_conv_channels=[24, 8], output_proj_dims=40)])  # fmt: skip
def test_the_audio_tower_of_gemma_4_is_counted_right(changes):
    config = {"model_type": "gemma4", "audio_config": {"hidden_size": 1024, **changes}}
    with torch.device("meta"):
        tower = Gemma4AudioModel(transformers.Gemma4AudioConfig(**changes))
    assert counted("audio", config)["parameters"] == sum(p.numel() for p in tower.parameters())


def test_the_file_is_whole_or_not_there(tmp_path):
    spec = archlab.load("gemma-2-2b")
    path = tmp_path / "config.json"
    config = archlab.hf.export_config(spec, path)
    assert json.loads(path.read_text()) == config
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    with pytest.raises(ArchlabError, match="cannot be written: no such file"):
        archlab.hf.export_config(spec, tmp_path / "nowhere" / "config.json")


# ---------------------------------------------------------------- shapes that no class says

REFUSED = {
    "gemma has no QK-norm": ("gemma-2b", {"attention.qk_norm": True}, "there attention.qk_norm is false, not true"),
    "gemma 2 has no QK-norm": ("gemma-2-2b", {"attention.qk_norm": True}, "there attention.qk_norm is false, not true"),
    "gemma 3 caps no scores": ("gemma-3-1b", {"attention.softcap": 50.0}, "there attention.softcap is null, not 50.0"),
    "gemma caps no logits": ("gemma-2b", {"head.softcap": 30.0}, "there head.softcap is null, not 30.0"),
    "gemma has no windows": ("gemma-2b", {"pattern": ["local", "global"], "local": {}, "local.window": 9}, "family: vaultgemma would do"),
    "one RoPE for all layers": ("gemma-2-2b", {"global": {}, "global.rope_theta": 1e6}, "attention.rope_theta is 10000.0 and 1000000.0"),
    "windows of two sizes": (
        "gemma-3-1b", {"spans": {}, "spans.last": {}, "spans.last.layers": "-6:", "spans.last.local": {}, "spans.last.local.window": 64},
        "local.window is 512 and 64 in different layers",
    ),
    "heads that differ by kind": (
        "gemma-3-1b", {"attention.n_kv_heads": 1, "global.n_kv_heads": 4}, "attention.n_kv_heads is 1 and 4",
    ),
    "a query scale that is no whole number": ("gemma-2-2b", {"attention.query_scale": 12.5}, "transformers takes a whole number"),
    "an odd width": ("gemma-2-2b", {"d_model": 2305}, "d_model (2305) must be a multiple of n_heads (8)"),
    "norms without an offset": ("gemma-2-2b", {"norm.gain": "plain"}, "plus_one is true, not false"),
    "embeddings that are not scaled": ("gemma-2-2b", {"embedding.scaled": False}, "there embedding.scaled is true, not false"),
    "experts elsewhere": ("gemma-2-2b", {"moe": {}, "moe.experts": 8, "moe.top_k": 2, "moe.d_ff": 64}, "there it has no moe"),
    "no cap in RecurrentGemma": ("recurrentgemma-2b", {"head.softcap": None}, "logits_soft_cap=null must be a number above 0"),
    "the last layer of gemma 4": ("gemma-4-31b", {"pattern": ["global", "local*5"]}, "transformers makes the last layer a full one"),
    "a depth that ends on a local layer": ("gemma-4-26b-a4b", {"n_layers": 31}, "n_layers=30 would end on one"),
    "a width beside counted towers": (
        "gemma-3n-e2b", {"d_model": 1024, "vision.counted.projector": 4460544, "audio.counted.projector": 3345408},
        "a counted projector does not follow d_model: vision.counted.projector is",
    ),
    "another audio tower": ("gemma-4-e2b", {"audio.counted.parameters": 7}, "there audio"),
    "a picture of another size": ("gemma-3-4b", {"vision.patches.image_size": 890, "vision.patches.patch_size": 10, "vision.projector.pool": 1}, None),
    "a family of one's own": ("gemma-2b", {"family": "mine"}, "only gemma, gemma2"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_class_can_say_is_refused_with_the_reason(case):
    name, changes, reason = REFUSED[case]
    spec = archlab.load(name, changes)
    if reason is None:
        assert difference(spec, archlab.hf.import_config(archlab.hf.export_config(spec))) is None
        return
    with pytest.raises(ArchlabError) as caught:
        archlab.hf.export_config(spec)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{name} has no config.json of family {spec.family}: ")
    assert "\n" not in str(caught.value)


def test_sizes_that_are_columns_are_refused():
    numpy = pytest.importorskip("numpy")
    spec = archlab.load("gemma-2-2b", {"mlp.d_ff": numpy.array([1024.0, 2048.0])})
    with pytest.raises(ArchlabError, match="only a model of plain numbers"):
        archlab.hf.export_config(spec)


def test_sizes_beyond_the_released_ones_are_said_layer_by_layer():
    """Key/value heads of gemma 4's global layers, where the keys are not the values too: per_layer_config says them."""
    spec = archlab.load(
        "gemma-4-e2b", {"attention.n_kv_heads": 1, "global.n_kv_heads": 2, "vision": None, "audio": None}
    )
    config = archlab.hf.export_config(spec)
    assert config["per_layer_config"]["4"] == {"head_dim": 512, "num_key_value_heads": 2}
    assert sum(p.numel() for p in built(config).parameters()) == archlab.params(spec).total


def test_rows_and_moves_have_the_same_elements():
    for name in DISTINCT:
        for move in moves(spec := archlab.load(name), naming_of(spec)):
            parts = 1 if move.start is None else move.shape[move.start[0]] // move.start[2]
            assert product(list(move.view)) * parts == product(list(move.shape)), move
