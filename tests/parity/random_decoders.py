"""What the tests of Gemma 3n and 4 share: transformers' models with random weights, ours made of them, and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import archlab
from archlab.assemble import resolve
from archlab.nn.audit import traced_flops, traced_macs
from archlab.nn.build import build
from archlab.nn.decoder import Decoder
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.workload import Workload

VOCAB = 61
WORKS = ((23, 23), (7, 23), (1, 23))
"""(new, context) of a prefill, a chunk and a decode step."""
BUFFERS = ("layer_scalar", "std_bias", "std_scale")


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Every weight and every buffer that files keep drawn anew, so that nothing stands at its identity.

    Scores are not divided by a head's width here: gains of a half before them keep a softmax from being an argmax.
    """
    draw = torch.Generator().manual_seed(seed)
    buffers = [(name, buffer) for name, buffer in model.named_buffers() if name.endswith(BUFFERS)]
    for name, tensor in (*model.named_parameters(), *buffers):
        if tensor.dim() > 1:
            tensor.normal_(std=_spread(model, name, tensor), generator=draw)
        else:
            tensor.normal_(0.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else 1.0, 0.2, generator=draw)


def _spread(model: nn.Module, name: str, tensor: Tensor) -> float:
    if "embed_tokens_per_layer" in name:  # scaled to 1 a slice, not a row
        return model.config.get_text_config().hidden_size_per_layer_input ** -0.5
    if "modality_router" in name:  # its input is divided by the width
        return 0.2 * tensor.shape[-1] ** 0.5
    return tensor.shape[-1] ** -0.5


def ours(theirs: nn.Module, changes: Mapping[str, Any] | None = None, dtype: torch.dtype = torch.float32) -> Decoder:
    """Our model of a config.json, with the same weights."""
    spec = archlab.hf.import_config(theirs.config.to_dict())
    model = archlab.build(resolve(override(dict(spec.data), changes)) if changes else spec, dtype=dtype)
    archlab.hf.load_weights(model, theirs.state_dict())
    return model


def ids_of(batch: int, length: int, seed: int = 0, most: int = VOCAB) -> Tensor:
    return torch.randint(0, most, (batch, length), generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    assert expected.std() > 0.3, "too small to tell anything"
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def cached(model: Decoder, ids: Tensor, chunks: Sequence[int], spare: int = 0) -> Tensor:
    """Logits chunk by chunk, with a cache of that many tokens more than are needed."""
    cache = model.init_cache(len(ids), ids.shape[1] + spare)
    return torch.cat([model(chunk, cache) for chunk in ids.split(list(chunks), 1)], 1)


def check_counts(spec: ModelSpec) -> None:
    """Dense FLOPs by both tracers, numbers of weights and bytes of the cache, all as integers."""
    model = build(spec, device="meta", dtype=torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == archlab.params(spec).total
    for (new, context), logits in zip(WORKS, ("all", "last", "all"), strict=True):
        work = Workload(2, new, context, logits=logits)
        macs, uncounted = traced_macs(model, work)
        assert traced_flops(model, work) == 2 * macs == archlab.flops(spec, work).dense
        assert not uncounted
        assert model.init_cache(2, context).nbytes == archlab.kv_cache(spec, context, 2, "bf16").total
