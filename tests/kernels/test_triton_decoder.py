"""The whole fast decoder on Triton's kernels gives the reference's logits: a prefill, then steps across the windows."""

import pytest
import torch

import archlab
from archlab.nn.build import build, fast_decoder

pytest.importorskip("triton", reason="triton is not installed: pip install --no-deps triton, beside torch for the CPU")
from archlab.nn.kernels import triton_kernels

CONTEXT, PROMPT = 7, 5

SMALL = {"d_model": 24, "vocab_size": 37, "mlp.d_ff": 24}
FAMILIES = {
    "gemma-2b": {"n_layers": 2, "attention.n_heads": 4, "attention.head_dim": 16},
    "gemma-2-2b": {"n_layers": 2, "attention.n_heads": 4, "attention.n_kv_heads": 2, "attention.head_dim": 16, "local.window": 3},
    "gemma-3-1b": {"n_layers": 6, "attention.n_heads": 4, "attention.head_dim": 16, "local.window": 3},
    "gemma-4-31b": {
        "n_layers": 6, "attention.n_heads": 4, "local.n_kv_heads": 2, "global.n_kv_heads": 1, "local.head_dim": 16,
        "global.head_dim": 32, "local.window": 3, "local.image_blocks": False, "vision": None,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_decoder_of_triton_kernels_equals_the_reference(family, device, few_processors):
    few_processors(2)  # more rows a program, fewer programs to interpret
    spec = archlab.load(family, {**SMALL, **FAMILIES[family]})
    reference = build(spec, device=device)
    draw = torch.Generator(device).manual_seed(0)
    for parameter in reference.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn(parameter.shape, generator=draw, device=device) * 0.2)
    fast = fast_decoder(spec, device, torch.float32, triton_kernels)
    fast.load_state_dict(reference.state_dict())
    ids = torch.randint(spec.vocab_size, (1, CONTEXT), generator=torch.Generator().manual_seed(1)).to(device)
    cache = fast.init_cache(1, CONTEXT)
    found = torch.cat([fast(piece, cache) for piece in ids.split([PROMPT] + [1] * (CONTEXT - PROMPT), 1)], 1)
    wanted = reference(ids)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())
