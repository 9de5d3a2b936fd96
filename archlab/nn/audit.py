"""The closed forms against the built module: its own sizes, and two tracers that know nothing of the rows.

The module stands on the meta device, so a 27B model costs no memory. torch's FlopCounterMode counts 2 a multiply-add,
fvcore multiply-adds, hence twice its number. Both see full rectangles of scores, whatever the mask: `.dense`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archlab.analyzers.flops import flops
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import params
from archlab.ledger import ledger
from archlab.nn.build import build
from archlab.nn.cache import Cache
from archlab.nn.declare import declared
from archlab.nn.decoder import Decoder
from archlab.spec import ModelSpec, Workload

HARMLESS = {
    "abs", "add", "add_", "amax", "clone", "cos", "div", "div_", "embedding", "exp", "gelu", "index_copy_",
    "index_select", "le", "lift_fresh", "lt", "mean", "mul", "mul_", "ne", "neg", "new_full", "ones", "pow",
    "reciprocal", "relu", "remainder", "rsqrt", "rsub", "sigmoid", "silu", "sin", "softmax", "sqrt", "square",
    "sub", "sum", "tanh", "unflatten", "where", "zeros",
}  # fmt: skip
"""What fvcore may leave uncounted: elementwise work, reductions and moves. Anything else might hold matrix products."""


@dataclass(frozen=True)
class Check:
    """One number, twice: `closed_form` from the rows, `module` from what was built, by way of `source`."""

    what: str
    closed_form: int
    module: int
    source: str

    @property
    def agree(self) -> bool:
        """Equal as integers."""
        return self.closed_form == self.module


@dataclass(frozen=True)
class Audit:
    """All checks of a model, for `batch` sequences of `context` tokens."""

    model: str
    context: int
    batch: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether all agree."""
        return all(check.agree for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """What a JSON document says of it."""
        checks = [{**dataclasses.asdict(check), "agree": check.agree} for check in self.checks]
        return {**dataclasses.asdict(self), "checks": checks, "ok": self.ok}


def audit(spec: ModelSpec, context: int | None = None, batch: int = 1) -> Audit:
    """Checks parameters, cache bytes, and FLOPs of a prefill of `context` tokens and of a decode step that ends there.

    The context is by default twice the widest window, so that the windows cut. Raises ArchlabError.
    """
    context = telling_context(spec) if context is None else context
    prefill = Workload(batch, new=context)
    model = build(spec, device="meta", dtype=torch.bfloat16)
    checks = [*_parameters(model), *_cache_bytes(model, prefill)]
    for title, work in ((f"prefill of {context}", prefill), (f"decode step at {context}", prefill.decode())):
        checks += _flops(model, work, title)
    return Audit(spec.name, context, batch, tuple(checks))


def telling_context(spec: ModelSpec) -> int:
    """Twice the widest window (2048 without windows), cut at the trained context."""
    windows = [s.window for entry in ledger(spec).entries for s in entry.rows.states.values() if s.window is not None]
    return min(spec.context, 2 * max(windows, default=1024))


def _parameters(model: Decoder) -> Iterator[Check]:
    counted, found = params(model.spec), parts_of(model)
    yield Check("parameters", counted.total, sum(p.numel() for p in model.parameters()), "nn.Module")
    for part in dict.fromkeys((*counted.by_part, *found)):
        yield Check(f"parameters, {part}", counted.by_part.get(part, 0), found[part], "nn.Module")


def parts_of(model: nn.Module) -> Counter[str]:
    """Parameters that the module holds, by the part that their row says; a shared one counts where it first stands."""
    parts = {
        f"{path}.{weight.name}": weight.part or module.block.part
        for path, module in declared(model).items()
        for weight in module.block.weights()
    }
    found: Counter[str] = Counter()
    for path, parameter in model.named_parameters():
        found[parts.get(path, "undeclared")] += parameter.numel()
    return found


def _cache_bytes(model: Decoder, work: Workload) -> Iterator[Check]:
    cache = model.init_cache(work.batch, work.context)
    counted = kv_cache(model.spec, work.context, work.batch, "bf16").total
    yield Check(f"cache bytes, bf16, {work.context} tokens", counted, cache.nbytes, "nn.Module")


def _flops(model: Decoder, work: Workload, title: str) -> Iterator[Check]:
    expected = flops(model.spec, work).dense
    yield Check(f"dense FLOPs, {title}", expected, traced_flops(model, work), "FlopCounterMode")
    macs, uncounted = traced_macs(model, work)
    yield Check(f"dense FLOPs, {title}", expected, 2 * macs, "2 x fvcore")
    names = ": " + ", ".join(sorted(uncounted)) if uncounted else ""
    yield Check(f"operations without a count, {title}{names}", 0, uncounted.total(), "fvcore")


class Run(nn.Module):
    """One forward pass of a workload, as tracers want it: tensors in, tensors out."""

    def __init__(self, model: Decoder, work: Workload) -> None:
        super().__init__()
        self.model, self.logits = model, work.logits
        self.cache: Cache | None = None
        if work.new < work.context:
            self.cache = model.init_cache(work.batch, work.context)
            self.cache.position = work.context - work.new  # as if these had gone by: on meta nothing is read

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids, self.cache, self.logits)


def _ids(model: Decoder, work: Workload) -> Tensor:
    return torch.zeros(work.batch, work.new, dtype=torch.long, device=next(model.parameters()).device)


def traced_flops(model: Decoder, work: Workload) -> int:
    """FLOPs by torch's FlopCounterMode; with work.train, of the backward pass too."""
    with torch.set_grad_enabled(work.train), FlopCounterMode(display=False) as counter:
        logits = Run(model, work)(_ids(model, work))
        if work.train:
            logits.sum().backward()
    return counter.get_total_flops()


@torch.no_grad()
def traced_macs(model: Decoder, work: Workload) -> tuple[int, Counter[str]]:
    """Multiply-adds by fvcore, and the operations without a formula that might hold more of them."""
    analysis = FlopCountAnalysis(Run(model, work), _ids(model, work))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    macs = analysis.total()
    uncounted = {op: n for op, n in analysis.unsupported_ops().items() if op.removeprefix("aten::") not in HARMLESS}
    return int(macs), Counter(uncounted)
