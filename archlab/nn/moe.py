"""A mixture of experts: each token goes to top_k of them, and gets their weighted sum.

The experts run in one of two ways that give the same: gathered, as one batched product over copies of the chosen
experts' weights, or expert by expert, each on the tokens that chose it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from archlab import blocks
from archlab.nn.declare import Declared, project
from archlab.nn.mlp import ACTIVATIONS
from archlab.nn.norm import rms_norm, unit_rms
from archlab.nn.step import Step
from archlab.rows import Weight


class MoE(Declared):
    """Router and experts. Reads the raw stream: the router norms it without a gain, the experts with one."""

    block: blocks.MoE
    norm: Tensor  # D
    router: Tensor  # X D
    router_scale: Tensor  # D
    expert_scale: Tensor  # X
    gate: Tensor  # X F D
    up: Tensor  # X F D
    down: Tensor  # X D F

    def __init__(self, block: blocks.MoE, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.gain_offset = float(block.norm_plus_one)
        self.activation = ACTIVATIONS[block.activation]

    def initial(self, weight: Weight) -> float:
        """Scales that spread the router's scores by about 1; all experts weigh alike."""
        starts = {"router_scale": self.block.d_model**0.5, "expert_scale": 1.0}
        return starts.get(weight.name, super().initial(weight))

    def forward(self, x: Tensor, step: Step) -> Tensor:
        tokens = x.flatten(0, -2)  # N D
        chosen, shares = self.route(tokens)
        normed = rms_norm(tokens, self.norm, self.block.norm_eps, self.gain_offset)
        run = way(chosen.numel(), self.block.experts, x.device)
        return run(self, normed, chosen, shares).to(x.dtype).unflatten(0, x.shape[:-1])

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens N D -> the experts that each goes to, N Y, and their weights in its sum, N Y in fp32."""
        normed = unit_rms(tokens, self.block.norm_eps).to(tokens.dtype)
        scores = project(normed * self.router_scale * self.block.d_model**-0.5, self.router)  # N X
        shares, chosen = torch.softmax(scores, -1, dtype=torch.float32).topk(self.block.top_k)
        return chosen, shares / shares.sum(-1, keepdim=True) * self.expert_scale[chosen]


Way = Callable[[MoE, Tensor, Tensor, Tensor], Tensor]
"""(the mixture, tokens N D, experts chosen N Y, shares N Y) -> sums N D in fp32."""


def way(runs: int, experts: int, device: torch.device) -> Way:
    """Gathered on a GPU, while copies for so many runs of an expert take no more room than all experts do.

    There it waits for nothing and has one shape for each number of tokens, which decoding wants. So do tracers on meta,
    who cannot know how tokens choose. A CPU has nothing to wait for, and would only copy.
    """
    few = runs <= experts and device.type != "cpu"
    return gathered if few or device.type == "meta" else by_expert


def gathered(moe: MoE, tokens: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
    """All tokens at once, each with copies of its own experts' weights."""
    flat = chosen.flatten()  # NY
    gate, up = (project_each(tokens, w.index_select(0, flat), len(tokens)) for w in (moe.gate, moe.up))  # N YF
    hidden = (moe.activation(gate) * up).view(len(flat), -1)  # NY F
    y = project_each(hidden, moe.down.index_select(0, flat), len(flat))  # NY D
    return (y.view(*chosen.shape, -1) * shares.unsqueeze(-1)).sum(1)


def project_each(x: Tensor, weights: Tensor, n: int) -> Tensor:
    """n vectors x n I, each by its own rows of the weights: n O, from ... O I whose first axis is n's multiple."""
    return torch.bmm(weights.view(n, -1, x.shape[-1]), x.unsqueeze(-1)).squeeze(-1)


def runs_of_each(chosen: Tensor, experts: int) -> list[int]:
    """How often each expert was chosen; evenly, of fake tensors, which have shapes and no values."""
    if not isinstance(chosen, FakeTensor):
        return torch.bincount(chosen, minlength=experts).tolist()
    return [(len(chosen) + expert) // experts for expert in range(experts)]


def by_expert(moe: MoE, tokens: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
    """One expert after another, on the tokens that chose it; those that nobody chose are not read."""
    counts = runs_of_each(chosen.flatten(), moe.block.experts)
    runs = chosen.flatten().argsort(stable=True).split(counts)  # of N Y runs, by expert
    sums = tokens.new_zeros(tokens.shape, dtype=torch.float32)
    for run, gate, up, down in zip(runs, moe.gate.unbind(), moe.up.unbind(), moe.down.unbind(), strict=True):
        if len(run):
            own = run // moe.block.top_k  # tokens: no expert is chosen twice by one
            x = tokens[own]
            y = project(moe.activation(project(x, gate)) * project(x, up), down)
            sums.index_add_(0, own, y * shares.flatten()[run, None])
    return sums
