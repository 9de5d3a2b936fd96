"""Logits equal transformers', whose random weights are loaded here: fp32, eager attention, 1e-4 absolute."""

import pytest
import torch
import transformers

import archlab

TINY = dict(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=64,
    pad_token_id=0,
    attn_implementation="eager",
)
WINDOW = 6
LOCAL = {"rope_type": "default", "rope_theta": 10_000.0}
GLOBAL = {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0}
GEMMA3 = dict(
    num_hidden_layers=7, sliding_window=WINDOW, rope_parameters={"sliding_attention": LOCAL, "full_attention": GLOBAL}
)

CASES = {
    "gemma-mqa": ("Gemma", dict(num_key_value_heads=1)),
    "gemma-mha-wide-heads": ("Gemma", dict(num_key_value_heads=4, head_dim=24)),
    "gemma2-gqa": ("Gemma2", dict(sliding_window=WINDOW, query_pre_attn_scalar=16)),
    "gemma2-scalar-hard-caps": (
        "Gemma2",
        dict(sliding_window=WINDOW, query_pre_attn_scalar=12, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    ),
    "gemma2-no-caps-mha": (
        "Gemma2",
        dict(sliding_window=WINDOW, num_key_value_heads=4, attn_logit_softcapping=None, final_logit_softcapping=None),
    ),
    "gemma3-gqa-factor": ("Gemma3", dict(**GEMMA3, query_pre_attn_scalar=12)),
    "gemma3-mqa": ("Gemma3", dict(**GEMMA3, num_key_value_heads=1, query_pre_attn_scalar=16)),
    "gemma3-untied": ("Gemma3", dict(**GEMMA3, tie_word_embeddings=False)),
    "vaultgemma": (
        "VaultGemma",
        dict(
            num_key_value_heads=4,
            layer_types=["full_attention"] * 4,
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
            query_pre_attn_scalar=16,
        ),
    ),
    "vaultgemma-windows-caps": ("VaultGemma", dict(sliding_window=WINDOW, query_pre_attn_scalar=16)),
}


def pair(family: str, options: dict, seed: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A random model of transformers, norms included, and ours with its weights."""
    torch.manual_seed(seed)
    stem = "Gemma3Text" if family == "Gemma3" else family
    config = getattr(transformers, f"{stem}Config")(**(TINY | options))
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, parameter in theirs.named_parameters():
        if "embed" in name or "lm_head" in name:
            parameter.data.normal_(std=config.hidden_size**-0.5)
        elif parameter.dim() == 1:
            parameter.data.normal_(std=0.5)
        else:
            parameter.data.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_equal_transformers(case: str, seed: int) -> None:
    theirs, ours = pair(*CASES[case], seed)
    for length in (1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 2):
        ids = torch.randint(0, 97, (2, length))
        expected = theirs(ids).logits
        assert expected.std() > 0.3, "logits too small to tell anything"
        torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["gemma2-gqa", "gemma3-gqa-factor"])
@torch.no_grad()
def test_cached_logits_equal_transformers(case: str) -> None:
    theirs, ours = pair(*CASES[case], 2)
    ids = torch.randint(0, 97, (2, 20))
    expected = theirs(ids).logits
    cache = ours.init_cache(2, 20)
    chunks = ids.split([8, 3] + [1] * 9, dim=1)
    torch.testing.assert_close(torch.cat([ours(c, cache) for c in chunks], 1), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_bf16_embedding_scale_is_rounded_as_transformers_rounds_it() -> None:
    theirs, ours = pair("Gemma", {}, 3)
    ids = torch.arange(97)[None]
    embedded = theirs.bfloat16().model.embed_tokens(ids)
    assert torch.equal(ours.bfloat16().embedding(ids), embedded)


@torch.no_grad()
def test_bf16_norm_multiplies_its_gain_in_fp32() -> None:
    theirs, ours = (model.bfloat16() for model in pair("Gemma2", {}, 3))
    x = torch.randn(64, 1, 48).bfloat16()
    assert torch.equal(ours.layers[0].mlp.post_norm(x), theirs.model.layers[0].post_feedforward_layernorm(x))


@pytest.mark.parametrize("case", ["gemma-mqa", "gemma2-gqa", "gemma3-gqa-factor"])
@torch.no_grad()
def test_bf16_is_no_further_from_fp32_than_transformers_is(case: str) -> None:
    """Kernels may sum in another order, so bits differ; a rounding too many or too few would show."""
    theirs, ours = pair(*CASES[case], 4)
    ids = torch.randint(0, 97, (4, 40))
    exact = theirs(ids).logits
    their_error = (theirs.bfloat16()(ids).logits.float() - exact).abs().mean()
    our_error = (ours.bfloat16()(ids).float() - exact).abs().mean()
    assert 0.8 < our_error / their_error < 1.25


def test_parameter_names_and_shapes_take_a_whole_checkpoint() -> None:
    theirs, ours = pair("Gemma3", dict(GEMMA3), 5)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in ours.parameters()) == archlab.params(ours.spec).total
    assert ours.head.table is ours.embedding.table
