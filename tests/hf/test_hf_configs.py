"""config.json in: every released one is its preset, old keys and new ones say the same, and nothing is let pass."""

import json
from pathlib import Path

import pytest
import transformers

import archlab
from archlab.errors import ArchlabError
from archlab.hf.configs import difference
from archlab.hf.defaults import DEFAULTS
from archlab.hf.families import READERS, WRITERS

FOLDER = Path(__file__).parent / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
SAME = ("family", "d_model", "n_layers", "vocab_size", "context", "pattern", "decoder", "encoder", "vision", "audio")


def released(name: str) -> dict:
    """The keys of a checkpoint's config.json."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def assert_same(found, expected) -> None:
    assert difference(expected, found) is None
    for key in SAME:
        assert getattr(found, key) == getattr(expected, key), key


def test_every_preset_has_its_config_here():
    """But for the reference shapes of other families, whose config.json is not read."""
    assert sorted(name for name in archlab.models() if archlab.load(name).family in WRITERS) == NAMES
    assert set(archlab.models()) - set(NAMES) == {"gpt2-xl", "llama-3.1-8b"}


@pytest.mark.parametrize("name", NAMES)
def test_a_released_config_is_its_preset(name):
    assert_same(archlab.hf.import_config(FOLDER / f"{name}.json"), archlab.load(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_transformers_makes_of_it_is_the_preset_too(name):
    config = released(name)
    written = transformers.AutoConfig.for_model(**config).to_dict()
    assert_same(archlab.hf.import_config(written), archlab.load(name))


def test_a_path_a_folder_and_the_keys_are_one_model(tmp_path, archlab_command):
    folder = tmp_path / "my-gemma"
    folder.mkdir()
    (folder / "config.json").write_text((FOLDER / "gemma-2-2b.json").read_text())
    for spec in (
        archlab.hf.import_config(folder),
        archlab.hf.import_config(str(folder / "config.json")),
        archlab.load(folder / "config.json"),
        archlab.load(str(folder)),
    ):
        assert_same(spec, archlab.load("gemma-2-2b"))
        assert spec.name == "my-gemma"
        assert "config.json at" in spec.source
    done = archlab_command("describe", "my-gemma/config.json", "local.window=1024")
    assert done.code == 0
    assert "my-gemma" in done.out
    assert archlab.load(folder / "config.json", {"local.window": 9}).data["local"]["window"] == 9


# ---------------------------------------------------------------- class defaults

CLASSES = {
    "gemma": "GemmaConfig", "gemma2": "Gemma2Config", "gemma3_text": "Gemma3TextConfig", "gemma3": "Gemma3Config",
    "vaultgemma": "VaultGemmaConfig", "recurrent_gemma": "RecurrentGemmaConfig", "siglip_vision_model": "SiglipVisionConfig",
    "paligemma": "PaliGemmaConfig", "shieldgemma2": "ShieldGemma2Config", "t5gemma": "T5GemmaConfig",
    "t5_gemma_module": "T5GemmaModuleConfig", "t5gemma2": "T5Gemma2Config", "t5gemma2_text": "T5Gemma2TextConfig",
    "t5gemma2_encoder": "T5Gemma2EncoderConfig", "t5gemma2_decoder": "T5Gemma2DecoderConfig", "gemma3n": "Gemma3nConfig",
    "gemma3n_text": "Gemma3nTextConfig", "gemma3n_vision": "Gemma3nVisionConfig", "gemma3n_audio": "Gemma3nAudioConfig",
    "gemma4": "Gemma4Config", "gemma4_text": "Gemma4TextConfig", "gemma4_vision": "Gemma4VisionConfig",
    "gemma4_audio": "Gemma4AudioConfig", "gemma4_unified": "Gemma4UnifiedConfig",
    "gemma4_unified_text": "Gemma4UnifiedTextConfig", "gemma4_unified_vision": "Gemma4UnifiedVisionConfig",
    "gemma4_unified_audio": "Gemma4UnifiedAudioConfig",
}  # fmt: skip
NOT_THE_CLASS_S = {
    ("recurrent_gemma", "max_position_embeddings"), ("recurrent_gemma", "partial_rotary_factor"),
    ("gemma4_vision", "default_output_length"), ("gemma4_unified_vision", "num_soft_tokens"),
    ("gemma4_text", "global_head_dim"), ("gemma4_text", "num_global_key_value_heads"),
    ("gemma4_unified_text", "global_head_dim"), ("gemma4_unified_text", "num_global_key_value_heads"),
}  # fmt: skip
"""Keys that the classes take without a field, or that the processor or the report says."""


def plain(value):
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("model_type", CLASSES)
def test_defaults_are_those_of_the_classes(model_type):
    fields = getattr(transformers, CLASSES[model_type]).__dataclass_fields__
    for key, value in DEFAULTS[model_type].items():
        if (model_type, key) not in NOT_THE_CLASS_S:
            assert plain(fields[key].default) == value, key


def test_no_defaults_without_a_class():
    assert set(DEFAULTS) - set(CLASSES) == {"paligemma_vision", "paligemma_text"}
    assert set(READERS) <= set(CLASSES)


@pytest.mark.parametrize("model_type", [m for m in READERS if m not in ("gemma4", "gemma4_unified")])
def test_a_file_that_says_nothing_is_what_the_class_makes_of_it(model_type):
    """SigLIP's own default has a pooling head, which no Gemma keeps."""
    no_head = (
        {"vision_config": {"vision_use_head": False}} if model_type in ("gemma3", "shieldgemma2", "paligemma") else {}
    )
    if model_type == "t5gemma2":
        no_head = {"encoder": {"vision_config": {"vision_use_head": False}}}
    small = {"mm_tokens_per_image": 196} if model_type in ("gemma3", "shieldgemma2") else {}
    if model_type == "t5gemma2":
        no_head["encoder"]["mm_tokens_per_image"] = 196
    config = {"model_type": model_type, **no_head, **small}
    written = transformers.AutoConfig.for_model(**config).to_dict()
    assert_same(archlab.hf.import_config(config), archlab.hf.import_config(written))


# ---------------------------------------------------------------- old keys and new ones


def text(name: str, **changes) -> dict:
    """A released config with keys changed; None takes one away."""
    config = {**released(name), **changes}
    return {key: value for key, value in config.items() if value is not None or key not in changes}


LOCAL, GLOBAL = {"rope_type": "default", "rope_theta": 1e4}, {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}
TYPES_27B = (["sliding_attention"] * 5 + ["full_attention"]) * 10 + ["sliding_attention"] * 2
STYLES = {
    "gemma: rope_parameters": ("gemma-2b", dict(rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 1e4})),
    "gemma: gelu is the tanh form": ("gemma-2b", dict(hidden_act="gelu")),
    "gemma: both names of the activation": ("gemma-2b", dict(hidden_act="gelu", hidden_activation="gelu_pytorch_tanh")),
    "gemma2: both names of the activation": ("gemma-2-2b", dict(hidden_act="gelu_pytorch_tanh")),
    "gemma2: the class's rule for layer types": ("gemma-2-2b", dict(layer_types=None)),
    "gemma2: nothing about RoPE": ("gemma-2-2b", dict(rope_theta=None)),
    "gemma2: training keys": ("gemma-2-2b", dict(attention_dropout=0.1, cache_implementation="hybrid", torch_dtype="bfloat16")),
    "gemma3: rope_parameters by type": (
        "gemma-3-27b-text",
        dict(rope_theta=None, rope_local_base_freq=None, rope_scaling=None,
             rope_parameters={"sliding_attention": LOCAL, "full_attention": GLOBAL}),
    ),
    "gemma3: type for rope_type": ("gemma-3-27b-text", dict(rope_scaling={"type": "linear", "factor": 8.0})),
    "gemma3: layer types said": (
        "gemma-3-27b-text", dict(layer_types=TYPES_27B, sliding_window_pattern=None, _sliding_window_pattern=None)
    ),
    "vaultgemma: a dead window": ("vaultgemma-1b", dict(sliding_window=77)),
    "recurrentgemma: block_types": (
        "recurrentgemma-2b", dict(_block_types=None, block_types=["recurrent", "recurrent", "attention"])
    ),
    "recurrentgemma: a key of older versions": ("recurrentgemma-2b", dict(embeddings_scale_by_sqrt_dim=True)),
    "gemma3n: keys of older versions": (
        "gemma-3n-e2b", dict(audio_config={"conf_positional_bias_size": 256, "sscp_conv_eps": 0.001})
    ),
    "t5gemma2: said on both sides": ("t5gemma-2-270m-270m", dict(image_token_id=256001)),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_styles_say_the_same_model(style):
    name, changes = STYLES[style]
    assert_same(archlab.hf.import_config(text(name, **changes)), archlab.load(name))


def test_the_sliding_window_pattern_is_heeded():
    config = text("gemma-3-1b", sliding_window_pattern=3, _sliding_window_pattern=None)
    assert archlab.hf.import_config(config).pattern == ("local", "local", "global")
    with pytest.raises(ArchlabError, match="sliding_window_pattern=3 is not heeded"):
        archlab.hf.import_config(text("gemma-2-2b", layer_types=None, sliding_window_pattern=3))


def test_per_layer_config_of_to_dict_is_read_with_and_without_zeros():
    config = released("gemma-4-31b")
    inner = config["text_config"]
    inner.pop("global_head_dim"), inner.pop("num_global_key_value_heads")
    full = [i for i, kind in enumerate(inner["layer_types"]) if kind == "full_attention"]
    for width in (0, 2, 3):
        inner["per_layer_config"] = {str(i).zfill(width): {"head_dim": 512, "num_key_value_heads": 4} for i in full}
        assert_same(archlab.hf.import_config(config), archlab.load("gemma-4-31b"))


def test_a_released_gemma_4_has_keys_that_its_class_has_not():
    config = released("gemma-4-31b")
    config |= {"vision_soft_tokens_per_image": 280, "eoa_token_id": 258883}
    config["text_config"]["expert_intermediate_size"] = None
    config["vision_config"] |= {"default_output_length": 280, "global_head_dim": 72}
    config["vision_config"]["rope_parameters"] = {"rope_theta": 100.0, "rope_type": "default"}
    assert_same(archlab.hf.import_config(config), archlab.load("gemma-4-31b"))


def test_widths_that_differ_by_layer_become_spans():
    config = released("gemma-3n-e2b")
    widths = config["text_config"]["intermediate_size"]
    widths[3] = widths[20] = 4096
    spec = archlab.hf.import_config(config)
    assert spec.data["spans"]["wide"] == {"layers": "3, 20", "mlp": {"d_ff": 4096}}
    assert [layer.facts()["d_ff"] for layer in spec.decoder.in_order()] == widths


def test_ranges_that_are_left_out_are_told():
    assert "clip" in archlab.hf.import_config(FOLDER / "gemma-4-e2b.json").notes
    assert archlab.hf.import_config(FOLDER / "gemma-4-31b.json").notes == "none"


# ---------------------------------------------------------------- what is refused


def nested(name: str, part: str, **changes) -> dict:
    """A released config with keys of one section changed."""
    config = released(name)
    config[part] |= changes
    return config


REFUSED = {
    "no model_type": ({"hidden_size": 8}, "has no model_type"),
    "another model": ({"model_type": "llama"}, "model_type='llama' is not read"),
    "a near miss": ({"model_type": "gemma3n_txt"}, "did you mean 'gemma3n_text'?"),
    "unknown key": (text("gemma-2b", hidden_sise=9), "unknown key hidden_sise in a config.json of gemma, which might change the architecture; did you mean 'hidden_size'?"),
    "unknown key inside": (nested("gemma-3-4b", "text_config", moe_experts=9), "unknown key text_config.moe_experts"),
    "unknown rope key": (text("gemma-3-4b-text", rope_scaling={"rope_type": "linear", "factor": 8.0, "beta": 1}), "beta"),
    "wrong type": (text("gemma-2b", hidden_size="wide"), 'hidden_size="wide" must be a whole number of 1 or more'),
    "a float for a size": (text("gemma-2b", hidden_size=2048.5), "hidden_size=2048.5 must be a whole number"),
    "true for a size": (text("gemma-2b", num_key_value_heads=True), "num_key_value_heads=true must be a whole number"),
    "null for a size": ({**released("gemma-2b"), "hidden_size": None}, "hidden_size=null must be a whole number"),
    "zero layers": (text("gemma-2b", num_hidden_layers=0), "num_hidden_layers=0 must be a whole number of 1 or more"),
    "another activation": (text("gemma-2b", hidden_act="quick_gelu"), 'hidden_act="quick_gelu" is not read'),
    "activations that differ": (text("gemma-2b", hidden_activation="silu"), "hidden_act says gelu_tanh"),
    "another RoPE": (text("gemma-3-4b-text", rope_scaling={"rope_type": "yarn", "factor": 8.0}), "rope_type=\"yarn\" cannot be described"),
    "RoPE twice": (text("gemma-2b", rope_scaling={"rope_type": "linear", "factor": 2.0}, rope_parameters={"rope_theta": 1e4}), "say different things"),
    "another kind of layer": (text("vaultgemma-1b", layer_types=["chunked_attention"] * 26), "'chunked_attention'"),
    "layer types of another depth": (text("vaultgemma-1b", layer_types=["full_attention"] * 25), "has 25 entries for num_hidden_layers=26"),
    "no window": ({**released("gemma-2-2b"), "sliding_window": None}, "sliding_window is null"),
    "a dead soft cap": (text("gemma-3-1b", attn_logit_softcapping=50.0), "never caps its scores"),
    "both ways, by some kernels": (text("gemma-2-2b", use_bidirectional_attention=True), "eager attention stays causal"),
    "a classifier": (text("gemma-2b", architectures=["GemmaForSequenceClassification"]), "it must be GemmaForCausalLM or GemmaModel"),
    "heads that do not divide": (text("gemma-2b", num_key_value_heads=3), "must be a multiple of"),
    "a pooling head": (nested("gemma-3-4b", "vision_config", vision_use_head=True), "vision_config.vision_use_head=true"),
    "tokens that are no square": ({**released("gemma-3-4b"), "mm_tokens_per_image": 200}, "mm_tokens_per_image=200 must be a square"),
    "ties that differ": (nested("gemma-3-4b", "text_config", tie_word_embeddings=False), "transformers heeds the first"),
    "a projector of another width": ({**released("paligemma-3b-224"), "projection_dim": 9}, "must be text_config.hidden_size"),
    "an encoder alone": ({**released("t5gemma-2b-2b"), "is_encoder_decoder": False}, "an encoder alone is another model"),
    "another MobileNet": (nested("gemma-3n-e2b", "vision_config", architecture="mobilenetv5_base"), "architecture=\"mobilenetv5_base\""),
    "a scale that is not applied": (nested("gemma-3n-e2b", "text_config", altup_correct_scale=False), "then does not apply"),
    "all layers share": (nested("gemma-3n-e2b", "text_config", num_kv_shared_layers=30), "must leave one of the 30 layers"),
    "full layers that differ": (
        nested("gemma-4-31b", "text_config", per_layer_config={"5": {"head_dim": 512}, "11": {"head_dim": 256}}), "the same sizes"
    ),
    "a layer too many": (nested("gemma-4-31b", "text_config", per_layer_config={"60": {"head_dim": 512}}), "indices of the 60 layers"),
    "both ways everywhere": (nested("gemma-4-31b", "text_config", use_bidirectional_attention="all"), "is not read"),
    "another block type": (text("recurrentgemma-2b", _block_types=["recurrent", "mamba"]), "block_types has 'mamba'"),
    "another width of table": (nested("t5gemma-2-270m-270m", "decoder", vocab_size=99), "one width and one vocabulary"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case):
    config, sentence = REFUSED[case]
    with pytest.raises(ArchlabError) as caught:
        archlab.hf.import_config(config)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


FILES = {
    "nonsense": ("{", "is not valid JSON at line 1"),
    "a list": ("[1]", "must hold keys and values, not list"),
    "twice": ('{"model_type": "gemma", "model_type": "gemma2"}', "key 'model_type' is given twice"),
    "not a config": ('{"weight_map": {}}', "has no model_type"),
    "deep": ("[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_none(case, tmp_path, archlab_command):
    content, sentence = FILES[case]
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ArchlabError, match=r"config\.json") as caught:
        archlab.load(path)
    assert sentence in str(caught.value)
    done = archlab_command("describe", str(path))
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ArchlabError, match="cannot be read: no such file"):
        archlab.load(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ArchlabError, match="not a text file in UTF-8"):
        archlab.load(tmp_path / "config.json")


def test_the_hub_is_asked_only_by_name(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    path = tmp_path / "config.json"
    path.write_text((FOLDER / "gemma-2-2b.json").read_text())
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(hub, "hf_hub_download", lambda name, file: str(path))
    spec = archlab.load("hf:google/gemma-2-2b")
    assert (spec.name, spec.source) == ("gemma-2-2b", "config.json of google/gemma-2-2b")
    assert_same(spec, archlab.load("gemma-2-2b"))

    def down(name, file):
        raise OSError("the network\nis down. Try later.")

    monkeypatch.setattr(hub, "hf_hub_download", down)
    with pytest.raises(ArchlabError, match=r"^hf:google/gemma-2-2b cannot be fetched: the network is down$"):
        archlab.load("hf:google/gemma-2-2b")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ArchlabError, match="needs the package huggingface_hub"):
        archlab.load("hf:google/gemma-2-2b")
