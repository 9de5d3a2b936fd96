"""The mixture of experts: against transformers' router and experts, one way of running it against the other, its rows."""

from itertools import combinations, pairwise, product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma4TextConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4RMSNorm, Gemma4TextExperts, Gemma4TextRouter

import archlab
from archlab import blocks
from archlab.analyzers.latency import bound
from archlab.assemble import resolve
from archlab.hardware import load_hardware
from archlab.ledger import Entry, experts_touched, ledger
from archlab.nn.audit import traced_flops, traced_macs
from archlab.nn.moe import MoE, by_expert, gathered, way
from archlab.precision import load_precision
from archlab.spec import ModelSpec
from archlab.workload import Workload

D, F = 40, 28
TINY = {
    "name": "tiny", "family": "gemma4", "source": "this test", "d_model": D, "n_layers": 3, "vocab_size": 61,
    "context": 4096, "pattern": ["global"], "attention": {"n_heads": 3, "n_kv_heads": 1, "head_dim": 12},
    "mlp": {"d_ff": 44}, "moe": {"experts": 11, "top_k": 3, "d_ff": F}, "norm": {"gain": "plain", "post": True},
}  # fmt: skip


def moe(experts: int = 11, top_k: int = 3, seed: int = 0, device: str = "cpu") -> MoE:
    """A mixture with random weights, none at its identity."""
    torch.manual_seed(seed)
    module = MoE(blocks.MoE(d_model=D, experts=experts, top_k=top_k, d_ff=F), device, torch.float32)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            parameter.data.normal_(1, 0.3)
        else:
            parameter.data.normal_(std=parameter.shape[-1] ** -0.5)
    return module


def pair(experts: int, top_k: int, seed: int) -> tuple[MoE, Gemma4RMSNorm, Gemma4TextRouter, Gemma4TextExperts]:
    """Ours with random weights; transformers' norm, router and experts with the same."""
    ours = moe(experts, top_k, seed)
    config = Gemma4TextConfig(
        hidden_size=D, moe_intermediate_size=F, num_experts=experts, top_k_experts=top_k, enable_moe_block=True,
        experts_implementation="eager",
    )  # fmt: skip
    norm, router, theirs = Gemma4RMSNorm(D, eps=1e-6), Gemma4TextRouter(config), Gemma4TextExperts(config)
    norm.load_state_dict({"weight": ours.norm})
    router.load_state_dict(
        {"proj.weight": ours.router, "scale": ours.router_scale, "per_expert_scale": ours.expert_scale}
    )
    theirs.load_state_dict({"gate_up_proj": torch.cat((ours.gate, ours.up), 1), "down_proj": ours.down})
    return ours, norm, router, theirs


# ---------------------------------------------------------------- against transformers


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("experts", "top_k"), [(11, 3), (5, 1), (4, 4), (16, 8)])
@torch.no_grad()
def test_equals_transformers(experts, top_k, seed):
    ours, norm, router, theirs = pair(experts, top_k, seed)
    for shape in ((1, 1), (2, 1), (1, 3), (2, 2), (3, 17)):
        x = 3 * torch.randn(*shape, D)
        tokens = x.flatten(0, 1)
        _, shares, chosen = router(tokens)
        expected = theirs(norm(tokens), chosen, shares)
        assert expected.std() > 0.1, "too small to tell anything"
        our_chosen, our_shares = ours.route(tokens)
        assert torch.equal(our_chosen, chosen)
        torch.testing.assert_close(our_shares, shares, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours(x, None).flatten(0, 1), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_bf16_is_no_further_from_fp32_than_transformers_is():
    ours, norm, router, theirs = pair(11, 3, 3)
    tokens = torch.randn(400, D).bfloat16()
    _, shares, chosen = router(tokens.float())
    exact = theirs(norm(tokens.float()), chosen, shares)
    normed, shares = norm.bfloat16()(tokens), shares.bfloat16().float()
    ours, theirs = ours.bfloat16(), theirs.bfloat16()
    their_error = (theirs(normed, chosen, shares).float() - exact).abs().mean()
    for run in (gathered, by_expert):
        assert (run(ours, normed, chosen, shares) - exact).abs().mean() < 1.05 * their_error


# ---------------------------------------------------------------- two ways, one result


def expected(module: MoE, tokens: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """One run of an expert at a time, in fp64."""
    sums = torch.zeros(tokens.shape, dtype=torch.float64)
    gate, up, down = (w.double() for w in (module.gate, module.up, module.down))
    for n, y in product(*map(range, chosen.shape)):
        x, e = tokens[n].double(), chosen[n, y]
        hidden = torch.nn.functional.gelu(gate[e] @ x, approximate="tanh") * (up[e] @ x)
        sums[n] += shares[n, y] * (down[e] @ hidden)
    return sums.float()


@st.composite
def routings(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    """(experts, for each token the experts that it goes to, none twice)."""
    experts = draw(st.integers(1, 9))
    top_k = draw(st.integers(1, experts))
    row = st.permutations(range(experts)).map(lambda p: p[:top_k])
    return experts, draw(st.lists(row, min_size=1, max_size=12))


@settings(deadline=None, max_examples=60)
@given(routing=routings())
@example(routing=(9, [[4]] * 7))  # all tokens to one expert
@example(routing=(9, [[8, 0]] * 5))  # to two, and seven get none
@example(routing=(3, [[2, 0, 1], [0, 1, 2]]))  # each token to all
@example(routing=(1, [[0]]))
@torch.no_grad()
def test_both_ways_on_any_routing(routing):
    experts, rows = routing
    module = moe(experts, len(rows[0]))
    chosen = torch.tensor(rows)
    tokens, shares = torch.randn(len(rows), D), torch.rand(chosen.shape)
    for run in (gathered, by_expert):
        found = run(module, tokens, chosen, shares)
        torch.testing.assert_close(found, expected(module, tokens, chosen, shares), rtol=0, atol=1e-5)


def test_both_ways_have_the_same_gradients():
    module, tokens = moe(), torch.randn(13, D)
    found = []
    for run in (gathered, by_expert):
        module.zero_grad()
        chosen, shares = module.route(tokens)
        run(module, tokens, chosen, shares).square().sum().backward()
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() == dict(module.named_parameters()).keys() - {"norm"}
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-4)


class Largest(TorchDispatchMode):
    """The most elements that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            self.numel = max(self.numel, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize("tokens", [1, 3, 4, 64])
@torch.no_grad()
def test_nothing_is_made_that_is_larger_than_one_matrix_of_all_experts(tokens):
    """11 experts and 3 a token: on a GPU 3 tokens are gathered, 4 are not."""
    module, x = moe(), torch.randn(tokens, D)
    for device in ("cpu", "cuda"):
        run = way(3 * tokens, 11, torch.device(device))
        assert run is (gathered if device == "cuda" and tokens <= 3 else by_expert)
        with Largest() as largest:
            run(module, x, *module.route(x))
        assert largest.numel <= module.gate.numel()
    assert way(3 * tokens, 11, torch.device("meta")) is gathered


# ---------------------------------------------------------------- rows


PHASES = {"prefill": (48, 48), "chunk": (5, 31), "decode": (1, 48)}


@pytest.mark.parametrize("phase", PHASES)
def test_rows_by_two_tracers(phase):
    spec, (new, context) = resolve(TINY), PHASES[phase]
    work = Workload(2, new=new, context=context)
    model = archlab.build(spec, device="meta")
    macs, uncounted = traced_macs(model, work)
    assert traced_flops(model, work) == 2 * macs == archlab.flops(spec, work).dense
    assert not uncounted


def test_a_training_step():
    spec, work = resolve(TINY), Workload(2, new=9, train=True)
    for device in ("meta", "cpu"):
        assert traced_flops(archlab.build(spec, device=device), work) == archlab.flops(spec, work).dense


@pytest.mark.parametrize("tokens", [1, 2, 40])
@torch.no_grad()
def test_real_routing_does_the_same_flops_as_meta(tokens):
    counts = []
    for device in ("cpu", "meta"):
        with FlopCounterMode(display=False) as counter:
            moe(device=device)(torch.zeros(1, tokens, D, device=device).normal_(), None)
        counts.append(counter.get_total_flops())
    assert counts == [2 * tokens * D * (11 + 3 * 3 * F)] * 2


@torch.no_grad()
def test_random_weights_spread_the_tokens_and_stay_finite_in_bf16():
    deep = {**TINY, "n_layers": 30, "moe": {"experts": 16, "top_k": 2, "d_ff": F}}
    model = archlab.build(resolve(deep), dtype=torch.bfloat16)
    logits = model(torch.arange(48).view(2, 24))
    assert logits.isfinite().all() and 0.3 < logits.float().std() < 3
    chosen, shares = model.layers[0].moe.route(torch.randn(400, D).bfloat16())
    assert len(chosen.unique()) == 16
    torch.testing.assert_close(shares.sum(-1), torch.ones(400))


# ---------------------------------------------------------------- how many experts are touched


@pytest.mark.parametrize(
    ("top_k", "experts", "tokens"), [(1, 3, 4), (2, 4, 3), (3, 5, 2), (2, 2, 3), (1, 1, 5), (4, 6, 1)]
)
def test_experts_touched_by_enumeration(top_k, experts, tokens):
    """The mean over every way in which the tokens can choose."""
    ways = list(product(combinations(range(experts), top_k), repeat=tokens))
    mean = sum(len(set().union(*chosen)) for chosen in ways) / len(ways)
    assert experts_touched(top_k, experts, tokens) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("tokens", [2, 9, 40])
@torch.no_grad()
def test_experts_touched_by_a_random_router(tokens):
    """Routers with random weights prefer some experts, so that they touch fewer; not many fewer."""
    found = []
    for seed in range(60):
        chosen, _ = moe(32, 4, seed).route(torch.randn(tokens, D))
        found.append(len(chosen.unique()))
    mean = sum(found) / len(found)
    assert 0.93 * experts_touched(4, 32, tokens) < mean < 1.01 * experts_touched(4, 32, tokens)


def moe_entry(spec: ModelSpec, work: Workload) -> Entry:
    return next(entry for entry in ledger(spec, work).entries if entry.path == "moe")


def experts_read(spec: ModelSpec, batch: int) -> list[float]:
    """Of gate, up and down: how many experts' worth a decode step of a layer reads."""
    entry = moe_entry(spec, Workload(batch, new=1, context=4096))
    read = {weight.name: n for op in entry.rows.ops for weight, n in entry.read_weights(op)}
    one = entry.sizes["D"] * entry.sizes["F"]
    return [read[name] / one for name in ("gate", "up", "down")]


def test_a_token_of_26b_reads_8_of_128_experts_and_a_large_batch_all():
    spec = archlab.load("gemma-4-26b-a4b")
    assert experts_read(spec, 1) == [8, 8, 8]
    assert experts_read(spec, 4096) == [128, 128, 128]


def least(spec, work, hardware):
    """The bound of a step's experts."""
    return bound(ledger(spec, work), hardware, load_precision("bf16")).by_part["moe"]


def test_decode_latency_of_26b_is_that_of_the_bytes():
    """One token on an H200: 30 layers of 8 experts of three matrices, and of the router; no more, and no less."""
    spec = archlab.load("gemma-4-26b-a4b")
    hardware = load_hardware("h200-sxm")
    for batch, touched in ((1, 8), (4096, 128)):
        found = least(spec, Workload(batch, new=1, context=4096), hardware)
        read = 30 * 2 * 2816 * (touched * 3 * 704 + 128) / hardware.bandwidth_bytes_per_s
        work = 30 * 2 * batch * 2816 * (8 * 3 * 704 + 128) / hardware.flops_per_s("bf16")
        assert max(read, work) <= found < 1.02 * max(read, work)


@settings(deadline=None, max_examples=60)
@given(
    experts=st.integers(1, 64),
    share=st.floats(0.01, 1),
    batches=st.lists(st.integers(1, 3000), min_size=2, max_size=5, unique=True).map(sorted),
)
@example(experts=128, share=8 / 128, batches=[1, 2, 3, 16, 100, 4096])
def test_experts_read_grow_with_the_batch_between_k_and_all(experts, share, batches):
    top_k = max(1, int(experts * share))
    spec = resolve({**TINY, "moe": {"experts": experts, "top_k": top_k, "d_ff": F}})
    read = [experts_read(spec, batch)[0] for batch in batches]
    assert all(top_k * (1 - 1e-9) <= n <= experts for n in read)
    assert all(few <= many for few, many in pairwise(read))
    hardware = load_hardware("h200-sxm")
    seconds = [least(spec, Workload(batch, new=1, context=4096), hardware) for batch in batches]
    assert all(fast <= slow for fast, slow in pairwise(seconds))
