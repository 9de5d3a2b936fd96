"""The fast decoder gives what the reference gives, on every family, in every kind of step, in fp32 and in bf16."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import ONE_A_FAMILY, shrunk, specs, telling
from torch import nn

import archlab
from archlab.nn.build import build
from archlab.nn.decoder import Decoder
from archlab.nn.fast.attention import FastAttention
from archlab.nn.fast.mlp import FastMLP
from archlab.nn.fast.pack import rows
from archlab.nn.fast.replay import Replay
from archlab.nn.inputs import inputs_of
from archlab.nn.kernels import torch_kernels
from archlab.spec import ModelSpec

CONTEXT = 23
PROMPT = 9
"""More than the windows of the shrunk presets (6), which the prefill and the steps cross."""


@torch.no_grad()
def drawn(model: nn.Module) -> nn.Module:
    """Every parameter and buffer drawn, gains too, so that none is an identity."""
    draw = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        spread = tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else 0.3
        tensor.copy_(torch.randn(tensor.shape, generator=draw) * spread + (tensor.dim() <= 1) * 0.7)
    return model


def pair(spec: ModelSpec, dtype: torch.dtype = torch.float32) -> tuple[Decoder, Decoder]:
    """The reference and the fast decoder, with the same weights."""
    reference, fast = drawn(build(spec, dtype=dtype)), build(spec, dtype=dtype, fast=True, seed=1)
    fast.load_state_dict(reference.state_dict())
    return reference, fast


def tokens_of(spec: ModelSpec, batch: int, length: int) -> torch.Tensor:
    ids = torch.randint(spec.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))
    for tower in (spec.vision, spec.audio):
        if tower is not None and tower.token is not None:
            ids = ids * (ids != tower.token)
    return ids


def in_pieces(model: Decoder, given: dict, chunks: list[int]) -> torch.Tensor:
    """Logits with a cache, piece by piece; what comes with the first tokens comes with the first piece."""
    name = "decoder_ids" if model.spec.encoder is not None else "ids"
    first = {k: v for k, v in given.items() if k != name}
    batch, length = given[name].shape
    cache = model.init_cache(batch, length, source=given["ids"].shape[1] if name != "ids" else 0)
    made = []
    for index, piece in enumerate(given[name].split(chunks, 1)):
        more = first if index == 0 else {}
        made.append(model(**{"ids": None, **more, name: piece}, cache=cache))
    return torch.cat(made, 1)


def agree(found: torch.Tensor, wanted: torch.Tensor, share: float) -> None:
    assert wanted.abs().max() > 0.1, "too small to tell anything"
    torch.testing.assert_close(found.float(), wanted.float(), rtol=0, atol=share * wanted.float().abs().max().item())


@pytest.mark.parametrize("preset", ONE_A_FAMILY)
@torch.inference_mode()
def test_fast_equals_reference(preset):
    """At once, and with a cache: a prefill and single steps; a step, then a chunk, which goes the reference's way."""
    spec = shrunk(preset)
    reference, fast = pair(spec)
    given = inputs_of(reference, telling(spec, 2, CONTEXT, CONTEXT), torch.Generator().manual_seed(2))
    wanted = reference(**{"ids": None, **given})
    agree(fast(**{"ids": None, **given}), wanted, 1e-4)
    if spec.decodes:
        room = max(PROMPT, spec.vision.tokens * 2 if "pixels" in given and spec.encoder is None else 0)
        agree(in_pieces(fast, given, [room] + [1] * (CONTEXT - room)), wanted, 1e-4)
        agree(in_pieces(fast, given, [room, 1, 4, 1, CONTEXT - room - 6]), wanted, 1e-4)


@pytest.mark.parametrize("preset", ["gemma-2-2b", "gemma-3-1b", "gemma-3n-e2b", "gemma-4-26b-a4b", "recurrentgemma-2b"])
@torch.inference_mode()
def test_fast_is_as_near_in_bf16(preset):
    """To the fp32 logits of the same (rounded) weights, the fast one is no further than twice the reference's way."""
    spec = shrunk(preset)
    reference, fast = pair(spec, torch.bfloat16)
    exact = build(spec)
    exact.load_state_dict({k: v.float() for k, v in reference.state_dict().items()})
    ids = tokens_of(spec, 2, CONTEXT)
    wanted = exact(ids)
    scale = wanted.abs().max()
    own = (reference(ids).float() - wanted).abs().max() / scale
    found = (in_pieces(fast, {"ids": ids}, [PROMPT] + [1] * (CONTEXT - PROMPT)).float() - wanted).abs().max() / scale
    assert found <= max(2 * own, 0.02), (found, own)


def assert_near(found, reference, run):
    """Within 1e-4 of the largest logit. Of a random net that amplifies rounding the reference is itself only so near to
    the exact numbers as it is with the last bit of its weights changed at random (the farthest of several such changes,
    of which one may cancel); the fast one rounds in its own way, so the two may be twice as far apart.
    """
    wanted = run(reference)
    allowed = 1e-4 * max(wanted.abs().max().item(), 1e-3)
    if (found - wanted).abs().max() > allowed:
        allowed = max(allowed, *(2 * _changed_by_a_bit(reference, run, wanted, seed) for seed in range(5, 13)))
    torch.testing.assert_close(found, wanted, rtol=0, atol=allowed)


def _changed_by_a_bit(reference, run, wanted, seed):
    other, generator = copy.deepcopy(reference), torch.Generator().manual_seed(seed)
    for parameter in other.parameters():
        parameter.mul_(1 + 2**-23 * torch.randn(parameter.shape, generator=generator))
    return (run(other) - wanted).abs().max().item()


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(spec=specs(everything=True), length=st.integers(2, 20), prompt=st.integers(1, 12))
@torch.inference_mode()
def test_random_specs(spec, length, prompt):
    reference, fast = pair(spec)
    given = inputs_of(reference, telling(spec, 2, length, length), torch.Generator().manual_seed(2))
    assert_near(fast(**{"ids": None, **given}), reference, lambda module: module(**{"ids": None, **given}))
    if spec.decodes and prompt < length:
        pieces = [prompt] + [1] * (length - prompt)
        assert_near(in_pieces(fast, given, pieces), reference, lambda module: in_pieces(module, given, pieces))


@pytest.mark.parametrize("preset", ONE_A_FAMILY)
def test_the_parameters_are_the_references(preset):
    """Names, shapes and seeds of the reference; packed ones are views of one matrix, and nothing is stored twice."""
    spec = shrunk(preset)
    reference, fast = build(spec, seed=3).state_dict(), build(spec, seed=3, fast=True)
    found = fast.state_dict()
    assert list(found) == list(reference)
    assert all(torch.equal(found[name], tensor) for name, tensor in reference.items())
    for module in fast.modules():
        if isinstance(module, FastAttention | FastMLP):
            parts = [p for p in module.parameters(recurse=False) if p.data_ptr() >= module.packed.data_ptr()]
            inside = [p for p in parts if p.untyped_storage()._cdata == module.packed.untyped_storage()._cdata]
            assert sum(p.numel() for p in inside) == module.packed.numel()
            assert sum(map(rows, inside)) == len(module.packed)


def test_weights_written_later_count():
    """In place, by a state dict, by assignment, in another format: the packed matrix and the norms follow."""
    spec = shrunk("gemma-3-1b")
    reference, fast = pair(spec)
    ids = tokens_of(spec, 1, CONTEXT)
    with torch.no_grad():
        fast(ids)
        for model in (reference, fast):
            model.layers[0].attention.k.mul_(1.5)
            model.layers[1].attention.q_norm.add_(0.3)
            model.layers[2].mlp.up.mul_(0.5)
            model.layers[3].mlp.pre_norm.gain.mul_(2)
        agree(fast(ids), reference(ids), 1e-4)
        other = drawn(build(spec, seed=5))
        fast.load_state_dict(other.state_dict(), assign=True)
        agree(fast(ids), other(ids), 1e-4)
        agree(fast.to(torch.float64)(ids), other.to(torch.float64)(ids), 1e-4)


def test_weights_come_and_go_by_their_logical_names(tmp_path):
    reference, fast = pair(archlab.load("gemma-3-270m", {"n_layers": 2, "vocab_size": 64, "local.window": 4}))
    archlab.hf.export_weights(fast, tmp_path / "fast")
    archlab.hf.export_weights(reference, tmp_path / "reference")
    names = ("config.json", "model.safetensors")
    assert all((tmp_path / "fast" / n).read_bytes() == (tmp_path / "reference" / n).read_bytes() for n in names)
    again = build(fast.spec, fast=True, seed=9)
    archlab.hf.load_weights(again, tmp_path / "reference")
    ids = tokens_of(fast.spec, 1, 9)
    with torch.inference_mode():
        agree(again(ids), reference(ids), 1e-4)


@pytest.mark.parametrize("preset", ["gemma-2-2b", "gemma-3-1b", "gemma-3n-e2b"])
@pytest.mark.parametrize("new", [1, CONTEXT])
def test_a_replay_gives_what_the_pass_gives(preset, new):
    """Also of tokens that were written after it was recorded."""
    spec = shrunk(preset)
    reference, fast = pair(spec)
    work = telling(spec, 2, new, CONTEXT, logits="last")
    inputs = inputs_of(fast, work, torch.Generator().manual_seed(0))

    def cache_of(model: Decoder):
        cache = model.init_cache(2, CONTEXT)
        for seed, state in enumerate(cache.states.values()):
            state.buffer.normal_(generator=torch.Generator().manual_seed(seed))
        cache.position = CONTEXT - new
        return cache

    replay = Replay(fast, inputs, cache_of(fast), "last")
    assert replay.how == "TorchScript trace"
    with torch.no_grad():
        inputs["ids"].copy_(inputs_of(fast, work, torch.Generator().manual_seed(7))["ids"])
        if new == 1:  # the rings of both hold the same tokens, each in its own slot
            agree(replay(), fast(**inputs, cache=cache_of(fast), logits="last"), 1e-6)
        else:
            agree(replay(), reference(**inputs, logits="last"), 1e-4)


def test_a_replay_stays_python_where_values_decide():
    """A router's choices on a CPU decide which experts run: a trace would keep them."""
    spec = shrunk("gemma-4-26b-a4b")
    model = build(spec, fast=True)
    replay = Replay(model, inputs_of(model, telling(spec, 1, 5, 5)), model.init_cache(1, 5))
    assert replay.how == "Python"


@pytest.mark.parametrize("preset", ["gemma-3-1b", "gemma-2-2b"])
@torch.inference_mode()
def test_a_plain_step_makes_no_mask(preset, monkeypatch):
    """The reference asks for masks; the fast way never does, in a prefill as in a step."""
    spec = shrunk(preset)
    _, fast = pair(spec)
    monkeypatch.setattr("archlab.nn.step.Step.mask", lambda *_: pytest.fail("a mask was made"))
    in_pieces(fast, {"ids": tokens_of(spec, 1, CONTEXT)}, [PROMPT] + [1] * (CONTEXT - PROMPT))


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 40), window=st.none() | st.integers(1, 45), groups=st.integers(1, 3), kv=st.integers(1, 2),
    cap=st.none() | st.just(5.0), batch=st.integers(1, 2),
)  # fmt: skip
def test_windowed_attention_sees_what_a_mask_leaves(tokens, window, groups, kv, cap, batch):
    """Against the reference's eager attention under a mask made by hand."""
    from archlab.nn.attention import attend
    from archlab.nn.softcap import soft_cap

    draw = torch.Generator().manual_seed(tokens)
    q = torch.randn(batch, tokens, groups * kv, 8, generator=draw)
    k, v = (torch.randn(batch, tokens, kv, 8, generator=draw) for _ in range(2))
    ago = torch.arange(tokens)[:, None] - torch.arange(tokens)
    mask = (ago >= 0) & (ago < (tokens if window is None else window))
    wanted = attend(q, k, v, mask, 0.3, soft_cap(cap))
    torch.testing.assert_close(torch_kernels.causal_attention(q, k, v, window, 0.3, cap), wanted, rtol=0, atol=1e-4)


def test_weights_replaced_below_the_model_count():
    """A layer moved or loaded by itself, a parameter put in another's place: packed again before the next pass."""
    spec = shrunk("gemma-3-1b")
    reference, fast = pair(spec)
    ids, other = tokens_of(spec, 1, CONTEXT), drawn(build(spec, seed=5))
    with torch.no_grad():
        fast.layers.to(torch.float64).to(torch.float32)
        for model in (reference, fast):
            model.layers[0].attention.v.mul_(1.5)
            model.layers[1].mlp.gate.mul_(1.5)
            model.layers[2].attention.v = nn.Parameter(other.layers[2].attention.v.clone())
            model.layers[3].load_state_dict(other.layers[3].state_dict(), assign=True)
            model.layers[4].mlp.post_norm.gain = nn.Parameter(other.layers[4].mlp.post_norm.gain * 2)
        agree(fast(ids), reference(ids), 1e-4)


def test_it_can_be_copied_and_saved(tmp_path):
    reference, fast = pair(shrunk("gemma-3-1b"))
    ids = tokens_of(fast.spec, 1, CONTEXT)
    torch.save(fast, tmp_path / "fast.pt")
    with torch.no_grad():
        for other in (copy.deepcopy(fast), torch.load(tmp_path / "fast.pt", weights_only=False)):
            agree(other(ids), reference(ids), 1e-4)
            other.layers[0].mlp.up.mul_(3)
            assert not torch.allclose(other(ids), fast(ids))
