"""RecurrentGemma: logits equal transformers', chunks equal one forward pass, the scan equals a loop, rows the module.

transformers is run without its cache: with one, it forgets the convolution's taps between chunks of several tokens.
"""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

import archlab
from archlab.ledger import ledger
from archlab.nn.audit import Run, traced_flops, traced_macs
from archlab.nn.declare import declared
from archlab.nn.decoder import Decoder
from archlab.nn.rglru import RGLRU, convolved, products_of_windows, scan
from archlab.workload import Workload

WINDOW, VOCAB = 6, 97
TINY = dict(
    vocab_size=VOCAB,
    hidden_size=36,
    intermediate_size=2 * 58,
    num_hidden_layers=5,
    num_attention_heads=3,
    num_key_value_heads=1,
    lru_width=42,
    attention_window_size=WINDOW,
    logits_soft_cap=30.0,
    attn_implementation="eager",
)
CASES = {
    "pattern-cut-after-5": {},
    "pattern-cut-after-4": dict(num_hidden_layers=4, lru_width=36),
    "narrow-recurrence": dict(lru_width=24, conv1d_width=3),
    "long-convolution": dict(conv1d_width=7, num_hidden_layers=3),
    "attention-first": dict(block_types=["attention", "recurrent"], num_key_value_heads=3, attention_bias=True),
    "hard-cap": dict(logits_soft_cap=2.0, num_hidden_layers=3, conv1d_width=2),
}


def pair(case: str, seed: int) -> tuple[RecurrentGemmaForCausalLM, Decoder]:
    """A random model of transformers, nothing in it at its start, and ours with its weights."""
    torch.manual_seed(seed)
    config = RecurrentGemmaConfig(**(TINY | CASES[case]))
    theirs = RecurrentGemmaForCausalLM(config).eval()
    for name, parameter in theirs.named_parameters():
        if "embed" in name:
            parameter.data.normal_(std=config.hidden_size**-0.5)
        elif "recurrent_param" in name:
            parameter.data.normal_(-4, 2)  # a from near 0 to 0.9999
        elif parameter.dim() == 1 or name.endswith("gate_bias"):
            parameter.data.normal_(std=0.5)
        else:
            parameter.data.normal_(std=1.5 * parameter[0].numel() ** -0.5)
    for name, parameter in theirs.named_parameters():
        if "gate_weight" in name:  # [heads, in, out]
            parameter.data.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    ours = archlab.build(archlab.hf.import_config(config.to_dict()), init=False)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


def ids_of(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def cached(model: Decoder, ids: torch.Tensor, chunks: list[int], dtype: torch.dtype | None = None) -> torch.Tensor:
    cache = model.init_cache(*ids.shape, dtype)
    return torch.cat([model(chunk, cache) for chunk in ids.split(chunks, 1)], 1)


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_equal_transformers(case, seed):
    theirs, ours = pair(case, seed)
    for length in (1, 2, WINDOW, WINDOW + 1, 3 * WINDOW + 2):
        ids = ids_of(2, length, seed)
        expected = theirs(ids, use_cache=False).logits
        assert expected.std() > 0.3, "logits too small to tell anything"
        torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_equal_transformers_for_more_seeds(case, seed):
    theirs, ours = pair(case, seed)
    for length in range(1, 30):
        ids = ids_of(2, length, seed)
        torch.testing.assert_close(ours(ids), theirs(ids, use_cache=False).logits, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_long_sequence_equals_transformers_in_one_pass_and_in_chunks():
    theirs, ours = pair("pattern-cut-after-5", 3)
    ids = ids_of(1, 300)
    expected = theirs(ids, use_cache=False).logits
    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
    for chunks in ([100] * 3, [251] + [1] * 49, [1, 2, 64, 33, 200]):
        torch.testing.assert_close(cached(ours, ids, chunks), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_token_by_token_equals_transformers_token_by_token():
    """Its own decoding, whose states hold where the width is the stream's and each step is one token."""
    theirs, ours = pair("pattern-cut-after-4", 4)
    ids = ids_of(2, 2 * WINDOW + 3)
    theirs._setup_cache(theirs.config, 2, ids.device, torch.float32)
    past = DynamicCache(config=theirs.config)
    steps = [theirs(token, use_cache=True, past_key_values=past).logits for token in ids.split(1, 1)]
    torch.testing.assert_close(cached(ours, ids, [1] * ids.shape[1]), torch.cat(steps, 1), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- states


@settings(deadline=None, max_examples=40)
@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8), case=st.sampled_from([*CASES]), batch=st.integers(1, 2)
)
@example(chunks=[1] * 16, case="long-convolution", batch=2)
@example(chunks=[2] * 8, case="long-convolution", batch=1)  # fewer tokens than taps
@example(chunks=[7, 1, 5, 1, 1], case="pattern-cut-after-5", batch=1)
@torch.no_grad()
def test_chunks_equal_one_forward(chunks, case, batch):
    _, model = pair(case, 5)
    ids = ids_of(batch, sum(chunks))
    torch.testing.assert_close(cached(model, ids, chunks), model(ids), rtol=0, atol=3e-5)


@torch.no_grad()
def test_a_cache_of_fewer_bits_keeps_the_recurrence_in_fp32():
    _, model = pair("pattern-cut-after-5", 6)
    ids, cache = ids_of(2, 20), model.init_cache(2, 20, torch.bfloat16)
    formats = {name.rpartition(".")[2]: state.buffer.dtype for name, state in cache.states.items()}
    assert formats == {"h": torch.float32, "taps": torch.bfloat16, "k": torch.bfloat16, "v": torch.bfloat16}
    assert cache.nbytes == archlab.kv_cache(model.spec, 20, 2, "bf16").total
    assert 0 < (cached(model, ids, [9, 1, 1, 9], torch.bfloat16) - model(ids)).abs().max() < 0.3
    assert model.init_cache(2, 20).nbytes == archlab.kv_cache(model.spec, 20, 2, "fp32").total


@torch.no_grad()
def test_a_cache_begins_anew_at_its_first_token():
    """What a cache holds from before does not reach a sequence that starts in it again."""
    _, model = pair("pattern-cut-after-5", 7)
    ids, cache = ids_of(2, 9), model.init_cache(2, 9)
    first = model(ids, cache)
    cache.position = 0
    assert torch.equal(model(ids, cache), first)


# ---------------------------------------------------------------- the scan and the convolution


def loop(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One token after another, in fp64."""
    h, steps = torch.zeros_like(b[:, 0], dtype=torch.float64), []
    for a_t, b_t in zip(a.double().unbind(1), b.double().unbind(1), strict=True):
        h = a_t * h + b_t
        steps.append(h)
    return torch.stack(steps, 1)


@pytest.mark.parametrize("length", [*range(1, 20), 31, 32, 33, 63, 64, 65, 300])
def test_scan_equals_a_loop(length):
    torch.manual_seed(length)
    a, b = torch.rand(2, length, 6), torch.randn(2, length, 6)
    a[..., 0], a[..., 1], a[..., 2] = 0, 1, 1 - 1e-6
    torch.testing.assert_close(scan(a, b).double(), loop(a, b), rtol=1e-6, atol=1e-5)


def test_scan_of_4096_tokens_is_as_exact_as_a_loop_in_fp32():
    torch.manual_seed(0)
    a, b = 1 - 1e-3 * torch.rand(1, 4096, 32), torch.randn(1, 4096, 32)
    plain, steps = torch.zeros(1, 32), []
    for t in range(4096):
        plain = a[:, t] * plain + b[:, t]
        steps.append(plain)
    exact = loop(a, b)
    assert (scan(a, b) - exact).abs().max() <= (torch.stack(steps, 1) - exact).abs().max()


class Operations(TorchDispatchMode):
    """How many operations ran."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("length", [1, 2, 64, 4096, 4097, 2**17])
def test_scan_takes_logarithmically_many_operations(length):
    a = torch.empty(1, length, 8, device="meta")
    with Operations() as operations:
        scan(a, a)
    assert operations.count <= 30 * math.ceil(math.log2(length))  # one token: none


def test_gradients_are_finite_where_nothing_is_forgotten():
    """a = 1 exactly: the root of 1 - a^2 has no slope there."""
    _, model = pair("pattern-cut-after-5", 8)
    blocks = [m for m in declared(model).values() if isinstance(m, RGLRU)]
    for block in blocks:
        block.decay.data[::3] = -200
    model(ids_of(2, 20)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(block.decay.grad.any() for block in blocks)


@pytest.mark.parametrize("taps", [2, 4, 7])
@torch.no_grad()
def test_the_convolution_that_tracers_see_is_the_one_that_runs(taps):
    u, weight, bias = torch.randn(3, 11 + taps - 1, 10), torch.randn(10, taps), torch.randn(10)
    torch.testing.assert_close(products_of_windows(u, weight, bias), convolved(u, weight, bias), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- random weights


def test_decay_starts_as_griffins():
    """exp(-8 softplus(decay)), a token's a where its gate is 1, is spread evenly from 0.9 to 0.999."""
    model = archlab.build(archlab.load("recurrentgemma-2b", {"n_layers": 1, "d_model": 60, "vocab_size": 50}))
    a = torch.exp(-8 * torch.nn.functional.softplus(model.layers[0].attention.decay)).sort().values
    torch.testing.assert_close(a, torch.linspace(0.9, 0.999, len(a)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_deep_bf16_model_stays_finite():
    config = RecurrentGemmaConfig(**(TINY | dict(num_hidden_layers=38)))
    model = archlab.build(archlab.hf.import_config(config.to_dict()), dtype=torch.bfloat16)
    ids = ids_of(2, 48)
    logits = model(ids)
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
    assert 0.3 < logits.float().std() < 3
    assert cached(model, ids, [40, 1, 7]).isfinite().all()


@torch.no_grad()
def test_bf16_is_closer_to_fp32_than_transformers_is():
    """It rounds a and the gates to bf16, where a of 0.999 is 1; ours keeps them in fp32."""
    theirs, ours = pair("pattern-cut-after-5", 9)
    ids = ids_of(4, 100)
    exact = theirs(ids, use_cache=False).logits
    their_error = (theirs.bfloat16()(ids, use_cache=False).logits.float() - exact).abs().mean()
    assert (ours.bfloat16()(ids).float() - exact).abs().mean() < 1.05 * their_error


# ---------------------------------------------------------------- rows

PHASES = {"prefill": (48, 48), "chunk": (5, 31), "short chunk": (2, 31), "decode": (1, 48), "first token": (1, 1)}


@pytest.mark.parametrize("case", ["pattern-cut-after-5", "long-convolution"])
@pytest.mark.parametrize("phase", PHASES)
def test_rows_by_two_tracers(case, phase):
    config = RecurrentGemmaConfig(**(TINY | CASES[case]))
    spec, (new, context) = archlab.hf.import_config(config.to_dict()), PHASES[phase]
    work = Workload(2, new=new, context=context)
    run = Run(archlab.build(spec, device="meta"), work)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(*run.inputs.values())
    found = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    for kind, index in (("recurrent", 0), ("local", 2)):
        entry = next(e for e in ledger(spec, work).entries if (e.path, e.kind) == ("attention", kind))
        expected = sum(op.flops(entry.sizes, dense=True) for op in entry.rows.ops)
        assert found[f"Run.model.layers.{index}.attention"] == expected
    macs, uncounted = traced_macs(run.model, work)
    assert found["Global"] == 2 * macs == archlab.flops(spec, work).dense
    assert not uncounted


def test_a_training_step():
    """FlopCounterMode counts a convolution's weight gradient as if its channels mixed; the rest is the rows'."""
    spec = archlab.hf.import_config(RecurrentGemmaConfig(**TINY).to_dict())
    work = Workload(2, new=9, train=True)
    recurrent, length, width, taps = 4, 2 * 9, 42, 4
    mixed = 2 * length * width * taps * (width - 1) * recurrent
    assert traced_flops(archlab.build(spec, device="meta"), work) - mixed == archlab.flops(spec, work).dense


def test_full_size_in_seconds_and_exact():
    spec = archlab.load("recurrentgemma-2b")
    model, work = archlab.build(spec, device="meta", dtype=torch.bfloat16), Workload(new=4096)
    assert traced_flops(model, work) == archlab.flops(spec, work).dense
    assert model.init_cache(3, 4096).nbytes == archlab.kv_cache(spec, 4096, 3, "bf16").total
