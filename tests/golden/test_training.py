"""What training stores: published bytes a parameter, adapters as PEFT counts them, torch's optimizers byte by byte."""

import pytest
import torch

import archlab
from archlab.algebra import column
from archlab.analyzers.params import weight_bytes
from archlab.analyzers.training import Training, divided_over, load_training, trained, training_items
from archlab.errors import ArchlabError
from archlab.formats import FORMATS
from archlab.items import Item
from archlab.ledger import ledger, stored
from archlab.nn.build import build
from archlab.parallel import Parallel, ranks
from archlab.precision import load_precision

WORK = archlab.Workload(context=512, train=True)

TINY = {
    "gemma-3-1b": {"d_model": 64, "n_layers": 7, "vocab_size": 300, "mlp.d_ff": 96, "attention.head_dim": 16},
    "gemma-4-26b-a4b": {"d_model": 64, "n_layers": 6, "vocab_size": 300, "mlp.d_ff": 96, "moe.d_ff": 24, "moe.experts": 6, "moe.top_k": 2,
                        "vision.n_layers": 1, "vision.d_model": 64, "vision.mlp.d_ff": 64, "vision.attention.n_heads": 2,
                        "vision.attention.n_kv_heads": 2, "vision.attention.head_dim": 8},
    "recurrentgemma-2b": {"d_model": 64, "n_layers": 3, "vocab_size": 300, "mlp.d_ff": 96, "recurrent.width": 40},
}  # fmt: skip


def items(
    name: str, precision: str, overrides: dict | None = None, ranks: Parallel | None = None, **options
) -> tuple[Item, ...]:
    spec = archlab.load(name, overrides)
    return training_items(ledger(spec), WORK, load_precision(precision), Training(**options), ranks)


def total(found: tuple[Item, ...], part: str | None = None) -> int:
    return sum(item.bytes for item in found if part in (None, item.part))


@pytest.mark.parametrize(
    ("precision", "options", "each"),
    [
        ("bf16", {}, 16),
        ("bf16", {"gradient_format": "fp32"}, 18),
        ("bf16", {"master_weights": False}, 8),
        ("fp32", {}, 16),
        ("bf16", {"optimizer": "sgd"}, 8),
        ("bf16", {"optimizer": "lion"}, 12),
    ],
)
def test_bytes_a_parameter(precision, options, each):
    """GPT-2 1.5B: 24 GB of states at 16 bytes a parameter (ZeRO arXiv:1910.02054, section 3.1: 1.5 billion, nominal)."""
    spec = archlab.load("gpt2-xl")
    params = archlab.params(spec).total
    weights = weight_bytes(spec, load_precision(precision))
    assert weights + total(items("gpt2-xl", precision, **options)) == each * params
    assert params == pytest.approx(1.5e9, rel=0.04)


@pytest.mark.parametrize(("zero", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_figure_1(zero, gigabytes):
    """7.5 billion parameters on 64 ranks (ZeRO arXiv:1910.02054, figure 1), gathered units apart."""
    spec, ranks = archlab.load("gpt2-xl"), Parallel(dp=64)
    found = items("gpt2-xl", "bf16", zero=zero, ranks=ranks)
    weights = weight_bytes(spec, load_precision("bf16")) / divided_over(3, Training(zero=zero), ranks)
    kept = weights + sum(item.bytes for item in found if item.kind != "gathered")
    assert kept / archlab.params(spec).total * 7.5 == pytest.approx(gigabytes, rel=0.02)


def test_eight_bit_adam_is_ten_bytes_and_its_scales():
    """2 + 2 + 4 + 2 bytes, and two fp32 scales for 256 elements; tensors under 4,096 elements keep fp32 states."""
    found = items("gemma-2-2b", "bf16", optimizer="adamw_8bit")
    params = archlab.params(archlab.load("gemma-2-2b")).total
    each = (total(found) + 2 * params) / params
    assert each == pytest.approx(10 + 8 / 256, abs=1e-3) and each > 10 + 8 / 256


def test_adapters_as_peft_counts_them():
    """Rank 8 on q and v of Llama 3.1 8B: 3,407,872 parameters, what print_trainable_parameters says."""
    found = trained(
        ledger(archlab.load("llama-3.1-8b")), load_precision("bf16"), Training(lora_rank=8, lora_targets=("q", "v"))
    )
    assert sum(t.numel for t in found) == 3_407_872
    everywhere = trained(ledger(archlab.load("llama-3.1-8b")), load_precision("bf16"), Training(lora_rank=16))
    assert sum(t.numel for t in everywhere) == 41_943_040


def test_adapters_train_and_the_base_does_not():
    found = items("llama-3.1-8b", "nf4-dq", lora_rank=8, lora_targets=("q", "v"))
    adapters = 3_407_872
    assert {item.part: item.bytes for item in found if item.kind != "dequantised"} == {
        "weights": 4 * adapters, "gradients": 4 * adapters, "optimizer": 8 * adapters,
    }  # fmt: skip
    assert next(i.bytes for i in found if i.kind == "dequantised") == 2 * 4096 * 14336
    half = items("llama-3.1-8b", "bf16", lora_rank=8, lora_targets=("q", "v"), lora_format="bf16")
    assert total(half) == 16 * adapters and not any(i.kind == "dequantised" for i in half)


def test_double_quantisation_saves_three_eighths_of_a_bit():
    """0.5 to 0.127 bits a parameter, 0.373 less (QLoRA arXiv:2305.14314, section 3)."""
    rows, length = 1024, 4096
    once, twice = (FORMATS[name].matrix_bits(rows, length) for name in ("nf4", "nf4_dq"))
    saved = (once - twice) / (rows * length)
    assert saved == pytest.approx(0.373, abs=5e-4)


def stepped(model: torch.nn.Module, make) -> int:
    """Bytes of an optimizer's states after a step, step counters apart."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = make(model.parameters())
    optimizer.step()
    held = [
        t for state in optimizer.state.values() for name, t in state.items() if name != "step" and torch.is_tensor(t)
    ]
    return sum(t.numel() * t.element_size() for t in held)


OPTIMIZERS = {
    "adamw": lambda params: torch.optim.AdamW(params),
    "adafactor": lambda params: torch.optim.Adafactor(params),
    "sgd_momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_are_those_of_torch(name, optimizer, precision):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    spec = archlab.load(name, TINY[name])
    model = build(spec).to(dtype)
    found = training_items(
        ledger(spec), WORK, load_precision(precision), Training(optimizer=optimizer, master_weights=False)
    )
    assert stepped(model, OPTIMIZERS[optimizer]) == next(i.bytes for i in found if i.kind == "states")
    grads = sum(p.grad.numel() * p.grad.element_size() for p in model.parameters())
    assert grads == total(found, "gradients")


def test_gathered_units_are_two_layers_or_a_layer_and_the_table():
    spec = archlab.load("llama-3.1-8b")
    found = items("llama-3.1-8b", "bf16", zero=3, ranks=Parallel(dp=8))
    layer = sum(n // e.count for e, _, n in stored(ledger(spec)) if e.kind)
    assert next(i.bytes for i in found if i.kind == "gathered") == 2 * (layer + 128256 * 4096)
    assert not any(i.kind == "gathered" for i in items("llama-3.1-8b", "bf16", zero=2, ranks=Parallel(dp=8)))


def test_experts_shared_among_replicas_are_divided_less():
    ranks = Parallel(dp=8, ep=4)
    training, spec = Training(zero=3), archlab.load("gemma-4-26b-a4b")
    moe = next(e for e in ledger(spec).entries if "gate" in e.rows.weights and e.part == "moe").rows.weights["gate"]
    assert divided_over(3, training, ranks) == 8
    assert divided_over(3, training, ranks, moe) == 2


def test_ranks_train_their_shares():
    """Tensor parallelism divides states with the weights; what is replicated has states on each rank."""
    spec, parallel = archlab.load("gemma-2-9b"), Parallel(tp=4)
    rank = ranks(ledger(spec), parallel)[0]
    found = training_items(rank.rows, WORK, load_precision("bf16"), Training(), parallel)
    assert total(found) == 14 * sum(n for _, _, n in stored(rank.rows))


def test_columns_agree_with_their_points():
    sizes = [9216, 18432]
    spec = archlab.load("gemma-2-9b", {"mlp.d_ff": column(sizes)})
    for options in ({}, {"optimizer": "adafactor"}, {"optimizer": "adamw_8bit"}, {"zero": 3}, {"lora_rank": 4}):
        found = training_items(ledger(spec), WORK, load_precision("bf16"), Training(**options), Parallel(dp=4))
        for at, d_ff in enumerate(sizes):
            alone = items("gemma-2-9b", "bf16", {"mlp.d_ff": d_ff}, Parallel(dp=4), **options)
            for mine, theirs in zip(found, alone, strict=True):
                whole = torch.as_tensor(mine.bytes).flatten()
                assert whole[at if len(whole) > 1 else 0].item() == theirs.bytes, (options, theirs)


@pytest.mark.parametrize(
    ("precision", "options", "words"),
    [
        ("q4_k_m", {}, "precision q4_k_m cannot be trained: .* lora_rank trains adapters"),
        ("bf16", {"lora_rank": 4, "lora_targets": ("q_proj",)}, "lora_targets has 'q_proj'.*known"),
        ("bf16", {"optimizer": "adam"}, "training.optimizer='adam' must be one of adamw"),
        ("bf16", {"zero": 4}, "training.zero=4 must be a whole number from 0 to 3"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(precision, options, words):
    with pytest.raises(ArchlabError, match=words):
        items("gemma-2-2b", precision, **options)


def test_a_training_is_read_from_keys():
    assert load_training(None) is None
    assert load_training({"zero": 2}) == Training(zero=2)
    with pytest.raises(ArchlabError, match=r"unknown key training\.zer; did you mean 'zero'"):
        load_training({"zer": 2})
