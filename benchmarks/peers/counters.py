"""Peers that run a built module and count: transformers' class on torch's meta device, without weights.

They know modules and torch's functions, so the module is transformers' own, with eager attention. A design point costs
them a build and a pass. Masks are handed in, since transformers' code for masks reads a value, and meta has none.
"""

from __future__ import annotations

from typing import Any

from peer import Config, Evaluate, Peer

MULTIPLY_ADD = 2
"""FLOPs of one: torchinfo, thop and fvcore count multiply-adds."""


def module_of(given: Config, context: int) -> tuple[Any, Any]:
    """(A module of token ids -> logits of the last position, token ids)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    class Prefill(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            mask = torch.empty(1, 1, context, context, dtype=torch.bfloat16, device="meta")
            masks = {"full_attention": mask, "sliding_attention": mask}
            places = torch.arange(context, device="meta")[None]
            return self.model(input_ids=ids, attention_mask=masks, position_ids=places, use_cache=False,
                              logits_to_keep=1).logits  # fmt: skip

    config = AutoConfig.for_model(**given)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager").eval()
        return Prefill(model), torch.zeros(1, context, dtype=torch.long)


def parameters(module: Any) -> int:
    """As torch counts them: a shared tensor once."""
    return sum(parameter.numel() for parameter in module.parameters())


def torch_counter() -> Evaluate:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def evaluate(given: Config, context: int) -> dict[str, float]:
        module, ids = module_of(given, context)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(ids)
        return {"params": parameters(module), "flops": counter.get_total_flops()}

    return evaluate


def fvcore() -> Evaluate:
    from fvcore.nn import FlopCountAnalysis

    def evaluate(given: Config, context: int) -> dict[str, float]:
        module, ids = module_of(given, context)
        counter = FlopCountAnalysis(module, (ids,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return {"params": parameters(module), "flops": counter.total() * MULTIPLY_ADD}

    return evaluate


def calflops() -> Evaluate:
    from calflops import calculate_flops

    def evaluate(given: Config, context: int) -> dict[str, float]:
        module, ids = module_of(given, context)
        count, _, total = calculate_flops(module, kwargs={"ids": ids}, print_results=False, output_as_string=False)
        return {"params": total, "flops": count}

    return evaluate


def torchinfo() -> Evaluate:
    from torchinfo import summary

    def evaluate(given: Config, context: int) -> dict[str, float]:
        module, ids = module_of(given, context)
        found = summary(module, input_data=[ids], device="meta", verbose=0)
        return {"params": found.total_params, "flops": found.total_mult_adds * MULTIPLY_ADD}

    return evaluate


def thop() -> Evaluate:
    from thop import profile

    def evaluate(given: Config, context: int) -> dict[str, float]:
        module, ids = module_of(given, context)
        count, total = profile(module, inputs=(ids,), verbose=False)
        return {"params": total, "flops": count * MULTIPLY_ADD}

    return evaluate


PEERS = (
    Peer("torch", "FlopCounterMode: FLOPs of one pass of a module", torch_counter),
    Peer("fvcore", "FLOPs of a traced module, by operator", fvcore),
    Peer("calflops", "parameters and FLOPs of one pass of a module", calflops),
    Peer("torchinfo", "parameters and FLOPs of one pass of a module, by layer", torchinfo),
    Peer("thop", "parameters and multiply-adds of one pass of a module", thop),
)
