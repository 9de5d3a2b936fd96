"""Random legal configurations of transformers: read, written, read again, and built, with the same parameters and logits."""

from typing import Any

import pytest
import tiny_hf as tiny
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archlab
from archlab.hf.configs import difference

transformers.logging.set_verbosity_error()
KINDS = ["sliding_attention", "full_attention"]


@st.composite
def text(draw: st.DrawFn) -> dict[str, Any]:
    """What all text configurations have, in small. Classes after the first want d_model a multiple of the heads.

    What is normed is wide enough that it is not mostly a sign: the norm of one number is, and that of two is close to
    it, so that fp32's own rounding comes out as 1e-4.
    """
    n_kv_heads = draw(st.integers(1, 3))
    n_heads = n_kv_heads * draw(st.integers(1, 3))
    return {
        "vocab_size": 97,
        "hidden_size": n_heads * draw(st.integers(-(-12 // n_heads), -(-12 // n_heads) + 3)),
        "intermediate_size": draw(st.integers(1, 40)),
        "num_hidden_layers": draw(st.integers(1, 6)),
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "head_dim": 2 * draw(st.integers(2, 8)),
        "max_position_embeddings": draw(st.integers(16, 64)),
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5])),
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": 0,
    }


def rope(draw: st.DrawFn, *more: dict[str, Any]) -> dict[str, Any]:
    return draw(st.sampled_from([
        {"rope_type": "default", "rope_theta": 1e4}, {"rope_type": "default", "rope_theta": 1e6},
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0}, *more,
    ]))  # fmt: skip


def types(draw: st.DrawFn, n_layers: int) -> list[str] | None:
    return draw(st.none() | st.lists(st.sampled_from(KINDS), min_size=n_layers, max_size=n_layers))


def maybe(draw: st.DrawFn, value: float) -> float | None:
    return draw(st.sampled_from([None, value]))


@st.composite
def gemma(draw: st.DrawFn) -> dict[str, Any]:
    bias, act = draw(st.booleans()), draw(st.sampled_from(["gelu", "gelu_pytorch_tanh", "silu", "relu"]))
    return draw(text()) | {"attention_bias": bias, "hidden_act": act, "rope_parameters": rope(draw)}


@st.composite
def gemma2(draw: st.DrawFn, ropes: bool = False, caps: bool = True) -> dict[str, Any]:
    config = draw(text())
    act = draw(st.sampled_from(["gelu", "gelu_pytorch_tanh", "silu"]))
    one = {"rope_parameters": {kind: rope(draw) for kind in KINDS} if ropes else rope(draw)}
    caps_too = {"attn_logit_softcapping": maybe(draw, 5.0)} if caps else {}
    return (
        config
        | one
        | caps_too
        | {
            "attention_bias": draw(st.booleans()),
            "hidden_activation": act,
            "layer_types": types(draw, config["num_hidden_layers"]),
            "sliding_window": draw(st.integers(1, 12)),
            "query_pre_attn_scalar": draw(st.integers(1, 40)),
            "final_logit_softcapping": maybe(draw, 3.0),
        }
    )


@st.composite
def gemma3n(draw: st.DrawFn) -> dict[str, Any]:
    config = draw(text())
    n = config["num_hidden_layers"] = draw(st.integers(2, 7))
    streams = draw(st.integers(2, 4))
    kinds = types(draw, n)
    config |= {
        "intermediate_size": draw(st.integers(4, 40) | st.lists(st.integers(4, 40), min_size=n, max_size=n)),
        "layer_types": kinds,
        "sliding_window": draw(st.integers(1, 12)),
        "rope_parameters": {kind: rope(draw) for kind in KINDS},
        "vocab_size_per_layer_input": 97,
        "hidden_size_per_layer_input": draw(st.integers(4, 9)),
        "altup_num_inputs": streams,
        "altup_active_idx": draw(st.integers(0, streams - 1)),
        "laurel_rank": draw(st.integers(1, 9)),
        "activation_sparsity_pattern": draw(
            st.none() | st.lists(st.sampled_from([0.0, 0.5, 0.95]), min_size=n, max_size=n)
        ),
        "num_kv_shared_layers": 0,
    }
    kinds = kinds or ["full_attention" if (i + 1) % 5 == 0 else "sliding_attention" for i in range(n)]
    owners = [i for i in range(1, n) if set(kinds[:i]) == set(kinds)]
    if owners and draw(st.booleans()):
        config["num_kv_shared_layers"] = n - draw(st.sampled_from(owners))
    return config


@st.composite
def gemma4(draw: st.DrawFn) -> dict[str, Any]:
    config = draw(text())
    n = config["num_hidden_layers"] = draw(st.integers(1, 7))
    kinds = types(draw, n)
    config |= {
        "layer_types": kinds,
        "sliding_window": draw(st.integers(1, 12)),
        "rope_parameters": {kind: rope(draw, {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5})
                            for kind in KINDS},
        "final_logit_softcapping": maybe(draw, 3.0),
        "global_head_dim": 4 * draw(st.integers(1, 6)),
        "attention_k_eq_v": draw(st.booleans()),
        "num_global_key_value_heads": draw(st.sampled_from([None, 1])),
        "use_double_wide_mlp": draw(st.booleans()),
        "hidden_size_per_layer_input": draw(st.sampled_from([0, 5])),
        "vocab_size_per_layer_input": 97,
        "num_kv_shared_layers": 0,
    }  # fmt: skip
    if draw(st.booleans()):
        config |= {
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": draw(st.integers(1, 4)),
            "moe_intermediate_size": 7,
        }
    kinds = kinds or ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(n)]
    kinds = [*kinds[:-1], "full_attention"]
    owners = [i for i in range(1, n) if set(kinds[:i]) == set(kinds)]
    if (
        owners and config["hidden_size_per_layer_input"]
    ):  # without these transformers 5.23.0 cannot run layers that share
        config["num_kv_shared_layers"] = n - draw(st.sampled_from(owners))
    return config


@st.composite
def recurrent(draw: st.DrawFn) -> dict[str, Any]:
    config = draw(text())
    n_heads = config["num_attention_heads"]
    return config | {
        "hidden_size": n_heads * draw(st.integers(-(-12 // n_heads), -(-12 // n_heads) + 3)),
        "lru_width": n_heads * draw(st.integers(1, 5)),
        "head_dim": 4 * draw(st.integers(1, 4)),
        "num_hidden_layers": draw(st.integers(2, 6)),
        "intermediate_size": 2 * draw(st.integers(1, 20)),
        "block_types": draw(st.sampled_from([["recurrent", "attention"], ["attention", "recurrent", "recurrent"]])),
        "attention_window_size": draw(st.integers(1, 12)),
        "conv1d_width": draw(st.integers(2, 4)),
        "attention_bias": draw(st.booleans()),
        "logits_soft_cap": 5.0,
    }


@st.composite
def t5gemma(draw: st.DrawFn) -> dict[str, Any]:
    encoder, decoder = draw(gemma2()), draw(gemma2())
    tie = {"tie_word_embeddings": decoder["tie_word_embeddings"]}
    for side in (encoder, decoder):
        side |= {"attention_bias": False, **tie}
    return {"encoder": encoder, "decoder": decoder, "vocab_size": 97, **tie}


@st.composite
def siglip(draw: st.DrawFn, pool: int = 1) -> dict[str, Any]:
    n_heads, patch = draw(st.integers(1, 3)), draw(st.sampled_from([2, 5]))
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": n_heads * draw(st.integers(4, 8)),
        "intermediate_size": draw(st.integers(4, 40)),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": n_heads,
        "patch_size": patch,
        "image_size": patch * pool * draw(st.integers(1, 3)),
        "vision_use_head": False,
    }


@st.composite
def pictures(draw: st.DrawFn, decoder: st.SearchStrategy, model_type: str) -> dict[str, Any]:
    """Gemma 3 with SigLIP, pooled to a square of tokens."""
    pool = draw(st.integers(1, 3))
    vision = draw(siglip(pool))
    along = vision["image_size"] // vision["patch_size"] // pool
    inner = draw(decoder) | {"model_type": model_type, "final_logit_softcapping": None}  # never capped: refused
    tie = {"tie_word_embeddings": inner["tie_word_embeddings"]}
    return {
        "text_config": inner,
        "vision_config": vision,
        "mm_tokens_per_image": along**2,
        "image_token_index": 95,
    } | tie


@st.composite
def paligemma(draw: st.DrawFn) -> dict[str, Any]:
    inner = (
        draw(gemma()) | {"model_type": "gemma"} if draw(st.booleans()) else draw(gemma2()) | {"model_type": "gemma2"}
    )
    tie = {"tie_word_embeddings": inner["tie_word_embeddings"]}
    width = {"projection_dim": inner["hidden_size"]}
    return {"text_config": inner, "vision_config": draw(siglip()), "image_token_index": 95} | tie | width


@st.composite
def t5gemma2(draw: st.DrawFn) -> dict[str, Any]:
    """Both sides of one width; layers, windows and feed-forward of their own."""
    whole = draw(pictures(gemma2(ropes=True, caps=False), "t5gemma2_text"))
    inner, tie = whole.pop("text_config"), {"tie_word_embeddings": whole.pop("tie_word_embeddings")}
    inner |= {"attention_bias": False, "final_logit_softcapping": maybe(draw, 3.0)}
    n_layers = draw(st.integers(1, 4))
    decoder = inner | {
        "model_type": "t5gemma2_decoder",
        "num_hidden_layers": n_layers,
        "layer_types": types(draw, n_layers),
        "intermediate_size": draw(st.integers(1, 40)),
        "sliding_window": draw(st.integers(1, 12)),
    }
    encoder = whole | {"model_type": "t5gemma2_encoder", "text_config": inner, "eoi_token_index": 94, **tie}
    return {"encoder": encoder, "decoder": decoder, "image_token_index": 95, "eoi_token_index": 94, **tie}


FAMILIES = {
    "Gemma": ("ForCausalLM", "Config", gemma()),
    "Gemma2": ("ForCausalLM", "Config", gemma2()),
    "Gemma3": ("ForCausalLM", "TextConfig", gemma2(ropes=True, caps=False)),
    "Gemma3 with pictures": ("ForConditionalGeneration", "Config", pictures(gemma2(ropes=True, caps=False), "gemma3_text")),
    "PaliGemma": ("ForConditionalGeneration", "Config", paligemma()),
    "T5Gemma2": ("ForConditionalGeneration", "Config", t5gemma2()),
    "VaultGemma": ("ForCausalLM", "Config", gemma2()),
    "RecurrentGemma": ("ForCausalLM", "Config", recurrent()),
    "Gemma3n": ("ForCausalLM", "TextConfig", gemma3n()),
    "Gemma4": ("ForCausalLM", "TextConfig", gemma4()),
    "T5Gemma": ("ForConditionalGeneration", "Config", t5gemma()),
}  # fmt: skip


def check(stem: str, data: st.DataObject, logits: bool = True) -> None:
    suffix, config_suffix, strategy = FAMILIES[stem]
    stem = stem.partition(" ")[0]
    options = data.draw(strategy)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager", "architectures": [stem + suffix]}
    config = getattr(transformers, stem + config_suffix)(**options, **eager)
    spec = archlab.hf.import_config({"model_type": config.model_type, **options})
    assert difference(spec, archlab.hf.import_config(config.to_dict())) is None
    exported = archlab.hf.export_config(spec)
    assert difference(spec, archlab.hf.import_config(exported)) is None
    torch.manual_seed(0)
    theirs = getattr(transformers, stem + suffix)(transformers.AutoConfig.for_model(**exported | eager)).eval()
    assert sum(p.numel() for p in theirs.parameters()) == archlab.params(spec).total
    for tensor in theirs.parameters():
        tensor.data.normal_(std=tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else 0.3)
    ours = archlab.build(spec, init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    ids = torch.randint(1, 94, (1, 14), generator=torch.Generator().manual_seed(1))
    if logits:  # of the fixed draws: at random ones fp32's own rounding may pass 1e-4 (a deep Gemma 3n)
        torch.testing.assert_close(tiny.outputs(ours, ids), tiny.outputs(theirs, ids), rtol=0, atol=1e-4)
    state = archlab.hf.export_weights(ours)
    assert all(torch.equal(tensor, theirs.state_dict()[key]) for key, tensor in state.items())


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize("stem", FAMILIES)
@settings(max_examples=12, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(st.data())
def test_random_configurations(stem, data):
    check(stem, data)


@pytest.mark.slow
@pytest.mark.parametrize("stem", FAMILIES)
@settings(max_examples=400, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_many_random_configurations(stem, data):
    check(stem, data, logits=False)
