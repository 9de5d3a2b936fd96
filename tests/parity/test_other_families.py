"""Llama 3.1 and GPT-2: logits equal transformers', with a cache and without; what their new keys refuse."""

from collections.abc import Iterator
from random import Random

import pytest
import torch
import transformers
from random_decoders import cached, close, ids_of
from torch import Tensor

import archlab
from archlab.errors import ArchlabError
from archlab.nn.decoder import Decoder
from archlab.nn.rope import rope_of

VOCAB = 61
LLAMA, GPT2 = archlab.load("llama-3.1-8b"), archlab.load("gpt2-xl")


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Gains near 1, biases near 0, tables and matrices of such a spread that logits tell something."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if tensor.dim() > 1:
            wide = 1.0 if "wpe" in name or "embed_tokens" in name else tensor.shape[-1] ** -0.5
            tensor.normal_(std=wide, generator=draw)
        else:
            tensor.normal_(0.0 if name.endswith("bias") else 1.0, 0.3, generator=draw)


def llama(seed: int) -> tuple[torch.nn.Module, Decoder]:
    """A random Llama, and ours: the preset in other sizes, with its weights. A token stands beyond the old context."""
    random = Random(seed)
    kv_heads, slow = random.choice([1, 2, 4]), random.choice([1.0, 0.5])
    scaling = {
        "rope_type": "llama3", "rope_theta": random.choice([50.0, 10_000.0, 500_000.0]), "factor": random.choice([2.0, 8.0]),
        "original_max_position_embeddings": random.choice([8, 24]), "low_freq_factor": slow,
        "high_freq_factor": slow * random.choice([2, 4]),
    }  # fmt: skip
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=random.choice([24, 40]), intermediate_size=random.choice([56, 80]),
        num_hidden_layers=random.choice([2, 3]), num_attention_heads=kv_heads * random.choice([1, 3]),
        num_key_value_heads=kv_heads, head_dim=random.choice([8, 16, 32]), max_position_embeddings=64,
        rms_norm_eps=random.choice([1e-5, 1e-2]), rope_parameters=scaling, tie_word_embeddings=False,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    randomise(theirs, seed)
    spec = archlab.load("llama-3.1-8b", {
        "d_model": config.hidden_size, "n_layers": config.num_hidden_layers, "vocab_size": VOCAB, "context": 64,
        "attention.n_heads": config.num_attention_heads, "attention.n_kv_heads": kv_heads,
        "attention.head_dim": config.head_dim, "mlp.d_ff": config.intermediate_size, "norm.eps": config.rms_norm_eps,
        "attention.rope_theta": scaling["rope_theta"], "attention.rope_factor": scaling["factor"],
        "attention.rope_original": scaling["original_max_position_embeddings"], "attention.rope_slow": slow,
        "attention.rope_fast": scaling["high_freq_factor"],
    })  # fmt: skip
    return theirs, filled(spec, dict(from_llama(theirs.state_dict(), config.num_hidden_layers)))


def from_llama(given: dict[str, Tensor], n_layers: int) -> Iterator[tuple[str, Tensor]]:
    """Our path -> their tensor, of as many elements."""
    yield "embedding.table", given["model.embed_tokens.weight"]
    yield "head.table", given["lm_head.weight"]
    yield "final_norm.gain", given["model.norm.weight"]
    for i in range(n_layers):
        layer, ours = f"model.layers.{i}.", f"layers.{i}."
        yield f"{ours}attention.pre_norm.gain", given[f"{layer}input_layernorm.weight"]
        yield f"{ours}mlp.pre_norm.gain", given[f"{layer}post_attention_layernorm.weight"]
        for name in ("q", "k", "v", "o"):
            yield f"{ours}attention.{name}", given[f"{layer}self_attn.{name}_proj.weight"]
        for name in ("gate", "up", "down"):
            yield f"{ours}mlp.{name}", given[f"{layer}mlp.{name}_proj.weight"]


def gpt2(seed: int) -> tuple[torch.nn.Module, Decoder]:
    """A random GPT-2, and ours: the preset in other sizes, with its weights."""
    random = Random(seed)
    n_heads, head_dim = random.choice([1, 2, 5]), random.choice([7, 8, 16])  # no RoPE: an odd width will do
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=random.choice([32, 40]), n_embd=n_heads * head_dim, n_head=n_heads,
        n_layer=random.choice([2, 3]), n_inner=random.choice([None, 52]), layer_norm_epsilon=random.choice([1e-5, 1e-2]),
        attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    randomise(theirs, seed)
    spec = archlab.load("gpt2-xl", {
        "d_model": config.n_embd, "n_layers": config.n_layer, "vocab_size": VOCAB, "context": config.n_positions,
        "position_embedding.table_rows": config.n_positions, "attention.n_heads": n_heads,
        "attention.n_kv_heads": n_heads, "attention.head_dim": head_dim, "norm.eps": config.layer_norm_epsilon,
        "mlp.d_ff": config.n_inner or 4 * config.n_embd,
    })  # fmt: skip
    return theirs, filled(spec, dict(from_gpt2(theirs.state_dict(), config.n_layer)))


def from_gpt2(given: dict[str, Tensor], n_layers: int) -> Iterator[tuple[str, Tensor]]:
    """The same of GPT-2, whose matrices stand the other way round, q, k and v in one."""
    yield "embedding.table", given["transformer.wte.weight"]
    yield "position_embedding.table", given["transformer.wpe.weight"]
    norms = {"final_norm": "ln_f"}
    for i in range(n_layers):
        layer, ours = f"transformer.h.{i}.", f"layers.{i}."
        norms |= {f"{ours}attention.pre_norm": f"h.{i}.ln_1", f"{ours}mlp.pre_norm": f"h.{i}.ln_2"}
        matrices = given[f"{layer}attn.c_attn.weight"].T.chunk(3), given[f"{layer}attn.c_attn.bias"].chunk(3)
        for name, matrix, bias in zip(("q", "k", "v"), *matrices, strict=True):
            yield f"{ours}attention.{name}", matrix
            yield f"{ours}attention.{name}_bias", bias
        for path, name in (("attention.o", "attn.c_proj"), ("mlp.up", "mlp.c_fc"), ("mlp.down", "mlp.c_proj")):
            yield f"{ours}{path}", given[f"{layer}{name}.weight"].T
            yield f"{ours}{path}_bias", given[f"{layer}{name}.bias"]
    for path, name in norms.items():
        yield f"{path}.gain", given[f"transformer.{name}.weight"]
        yield f"{path}.bias", given[f"transformer.{name}.bias"]


@torch.no_grad()
def filled(spec: archlab.spec.ModelSpec, tensors: dict[str, Tensor]) -> Decoder:
    """A model with these weights: each has its place, and each place its weight."""
    model = archlab.build(spec, init=False)
    places = dict(model.named_parameters())
    assert places.keys() == tensors.keys()
    for path, tensor in tensors.items():
        places[path].copy_(tensor.reshape(places[path].shape))
    return model


PAIRS = {"llama": llama, "gpt2": gpt2}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", PAIRS)
@torch.no_grad()
def test_logits_equal_transformers(family: str, seed: int) -> None:
    theirs, ours = PAIRS[family](seed)
    assert sum(p.numel() for p in theirs.parameters()) == archlab.params(ours.spec).total
    for length in (1, 7, 32):
        ids = ids_of(2, length, seed, VOCAB)
        close(ours(ids), theirs(ids).logits)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", PAIRS)
@torch.no_grad()
def test_cached_logits_equal_transformers(family: str, seed: int) -> None:
    """Positions go on from the cache's: a chunk, another, then token by token."""
    theirs, ours = PAIRS[family](seed)
    ids = ids_of(2, 20, seed, VOCAB)
    close(cached(ours, ids, [8, 3] + [1] * 9), theirs(ids).logits)


@pytest.mark.parametrize("family", PAIRS)
@torch.no_grad()
def test_what_sets_the_family_apart_changes_the_logits(family: str) -> None:
    """A scaling or a table that did nothing would be equal too."""
    _, ours = PAIRS[family](0)
    ids = ids_of(2, 20, 0, VOCAB)
    expected = ours(ids)
    if family == "llama":
        linear = archlab.load("llama-3.1-8b", {**sizes(ours), "attention.rope_original": None, **PLAIN_TURNS})
        other = archlab.build(linear)
        other.load_state_dict(ours.state_dict())
    else:
        other = ours
        other.position_embedding.table.zero_()
    assert (other(ids) - expected).abs().max() > 0.1


PLAIN_TURNS = {"attention.rope_slow": 1.0, "attention.rope_fast": 4.0}


def sizes(model: Decoder) -> dict[str, object]:
    """What a model says, as dotted keys."""
    return {k: v for k, v in archlab.schema.flat(model.spec.data) if k not in ("name", "family", "source", "notes")}


def test_the_frequencies_of_the_preset_are_transformers() -> None:
    """At full size: which of 64 frequencies are kept, divided or in between, and by how much."""
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(
        transformers.LlamaConfig(
            hidden_size=4096, num_attention_heads=32, head_dim=128, max_position_embeddings=131072,
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            },
        )
    )  # fmt: skip
    attention = LLAMA.layer("global").residuals[0].block
    found = rope_of(attention).frequencies(torch.device("cpu"))
    torch.testing.assert_close(found, rotary.inv_freq, rtol=1e-6, atol=0)
    plain = 500_000.0 ** -(torch.arange(0, 128, 2) / 128)
    share = found / plain
    assert (share > 0.999).sum() == 29 and (share < 0.126).sum() == 29


@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=lambda spec: spec.name)
def test_a_full_size_class_has_as_many_parameters(spec: archlab.spec.ModelSpec) -> None:
    heads = spec.layer("global").facts()
    with torch.device("meta"):
        if spec is LLAMA:
            theirs = transformers.LlamaForCausalLM(
                transformers.LlamaConfig(
                    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                    num_attention_heads=heads["n_heads"], num_key_value_heads=heads["n_kv_heads"],
                    tie_word_embeddings=False,
                )
            )  # fmt: skip
        else:
            theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=1600, n_layer=48, n_head=25))
    published = {"llama-3.1-8b": 8_030_261_248, "gpt2-xl": 1_557_611_200}[spec.name]
    assert {archlab.params(spec).total, sum(p.numel() for p in theirs.parameters())} == {published}


# ---------------------------------------------------------------- what cannot be

REFUSED = {
    "a context beyond the table": ("gpt2-xl", {"context": 1025}, r"^position_embedding: table_rows \(1024\) must be at least context \(1025\)"),
    "turns without a context": ("gemma-2b", {"attention.rope_slow": 2.0}, "^attention: rope_slow and rope_fast need rope_original"),
    "slow above fast": ("llama-3.1-8b", {"attention.rope_slow": 4.0}, r"^attention: rope_slow \(4.0\) must be below rope_fast \(4\)"),
    "no rows": ("gpt2-xl", {"position_embedding.table_rows": 0}, "table_rows=0 must be a whole number of 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(case: str) -> None:
    name, changes, sentence = REFUSED[case]
    with pytest.raises(ArchlabError, match=sentence) as caught:
        archlab.load(name, changes)
    assert "\n" not in str(caught.value)


def test_no_workload_reaches_beyond_the_table() -> None:
    for ask in (
        lambda: archlab.flops(GPT2, archlab.Workload(new=1, context=1025)),
        lambda: archlab.kv_cache(GPT2, 1025),
        lambda: archlab.build(GPT2, device="meta").init_cache(1, 1025),
    ):
        with pytest.raises(ArchlabError, match=r"^context=1025 cannot be: gpt2-xl has 1024 positions$"):
            ask()
    assert archlab.flops(GPT2, archlab.Workload(new=1, context=1024)).total > 0
    _, ours = gpt2(0)
    rows = len(ours.position_embedding.table)
    with pytest.raises(ArchlabError, match=f"^{rows + 1} tokens need as many positions, and the table has {rows}$"):
        ours(ids_of(1, rows + 1))


def test_a_table_without_rows_said_has_the_contexts() -> None:
    spec = archlab.load("gemma-2b", {"position_embedding": {}, "context": 512})
    gained = archlab.params(spec).total - archlab.params(archlab.load("gemma-2b")).total
    assert gained == 512 * spec.d_model


NOT_IN_A_CONFIG = {
    "scaling": ("gemma-2b", {"attention.rope_factor": 8.0, "attention.rope_original": 8192}, "attention.rope_original"),
    "scaling in Gemma 3": ("gemma-3-1b", {"global.rope_factor": 8.0, "global.rope_original": 32768}, "attention.rope_original"),
    "positions": ("gemma-2-2b", {"position_embedding": {}}, "position_embedding"),
    "LayerNorm": ("gemma-2b", {"norm.type": "layer"}, "LayerNorm"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_IN_A_CONFIG)
def test_a_gemma_s_config_cannot_say_them(case: str) -> None:
    """Refused with the reason, not dropped."""
    name, changes, reason = NOT_IN_A_CONFIG[case]
    spec = archlab.load(name, changes)
    with pytest.raises(ArchlabError, match=reason) as caught:
        archlab.hf.export_config(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=lambda spec: spec.name)
def test_no_config_is_written_or_read(spec: archlab.spec.ModelSpec) -> None:
    with pytest.raises(ArchlabError, match=rf"^{spec.name} has no config.json of family {spec.family}: only gemma"):
        archlab.hf.export_config(spec)
    with pytest.raises(ArchlabError, match=rf"model_type='{spec.family}' is not read"):
        archlab.hf.import_config({"model_type": spec.family})
    with pytest.raises(ArchlabError, match=rf"family='{spec.family}' has no checkpoint format"):
        archlab.hf.load_weights(archlab.build(spec, device="meta"), {})
