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
from archlab.ledger import ledger, stored
from archlab.nn.build import build
from archlab.nn.cache import Cache
from archlab.nn.declare import declared
from archlab.nn.decoder import Decoder
from archlab.nn.inputs import inputs_of
from archlab.spec import ModelSpec
from archlab.workload import Workload

HARMLESS = {
    "__or__", "abs", "add", "add_", "amax", "bitwise_and", "bitwise_or", "clamp_min", "clone", "cos", "cumsum", "div",
    "div_", "embedding", "exp", "gelu", "index_copy_", "index_select", "le", "lift_fresh", "lt", "masked_scatter",
    "mean", "mul", "mul_", "ne", "neg", "new_full", "ones", "ones_like", "pad", "pow", "reciprocal", "relu",
    "remainder", "rsqrt", "rsub", "sigmoid", "silu", "sin", "softmax", "softplus", "sqrt", "square", "std_mean", "sub",
    "sum", "tanh", "topk", "unflatten", "unfold", "where", "zeros",
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
    left_out: dict[str, int] = dataclasses.field(
        default_factory=dict
    )  # parameters of towers that are counted, not built

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

    The context is by default twice the widest window, so that the windows cut. An encoder reads a source of as many
    tokens, a tower that can be run one image. Raises ArchlabError.
    """
    context = telling_context(spec) if context is None else context
    prefill = telling_work(spec, batch, context)
    spec.admit(prefill)
    model = build(spec, device="meta", dtype=torch.bfloat16)
    checks = [*_parameters(model), *(_cache_bytes(model, prefill) if spec.decodes else ())]
    steps = [(f"prefill of {context}", prefill)]
    steps += [(f"decode step at {context}", prefill.decode())] if spec.decodes else []
    for title, work in steps:
        checks += _flops(model, work, title)
    return Audit(spec.name, context, batch, tuple(checks), counted_only(spec))


def counted_only(spec: ModelSpec) -> dict[str, int]:
    """Tower -> parameters known by number only: they are in the model's total, and in no module."""
    found: Counter[str] = Counter()
    for entry, weight, count in stored(ledger(spec)):
        found[entry.stack] += count if weight.use == "counted" else 0
    return dict(+found)


def telling_work(spec: ModelSpec, batch: int, context: int) -> Workload:
    """A prefill that runs every stack that can be run."""
    seen = spec.vision is not None and not spec.vision.counted
    return Workload(batch, new=context, source=context if spec.encoder else 0, images=1 if seen else 0)


def telling_context(spec: ModelSpec) -> int:
    """Twice the widest window (2048 without windows) and room for an image, cut at the trained context."""
    windows = [layer.facts()["window"] for layer in spec.decoder.layers]
    room = spec.vision.tokens if spec.vision is not None else 0
    return min(spec.context, max(2 * max((w for w in windows if w is not None), default=1024), room))


def _parameters(model: Decoder) -> Iterator[Check]:
    counted, found = parts_of_rows(model.spec), parts_of(model)
    yield Check("parameters", counted.total(), sum(p.numel() for p in model.parameters()), "nn.Module")
    for part in dict.fromkeys((*counted, *found)):
        yield Check(f"parameters, {part}", counted[part], found[part], "nn.Module")


def parts_of_rows(spec: ModelSpec) -> Counter[str]:
    """Parameters by part, without towers that are counted and not built."""
    parts: Counter[str] = Counter()
    for entry, weight, count in stored(ledger(spec)):
        parts[entry.part_of(weight)] += 0 if weight.use == "counted" else count
    return +parts


def parts_of(model: Decoder) -> Counter[str]:
    """Parameters that the module holds, by the part that their row says; a shared one counts where it first stands."""
    towers = {stack.prefix: stack.part for stack in model.spec.stacks if stack.part is not None}
    parts = {}
    for path, module in declared(model).items():
        tower = next((part for prefix, part in towers.items() if path.startswith(prefix)), None)
        for weight in module.block.weights():
            own = module.block.part if tower and module.block.own_part else weight.part or module.block.part
            parts[f"{path}.{weight.name}"] = tower if tower and not module.block.own_part else own
    found: Counter[str] = Counter()
    for path, parameter in model.named_parameters():
        found[parts.get(path, "undeclared")] += parameter.numel()
    return found


def _cache_bytes(model: Decoder, work: Workload) -> Iterator[Check]:
    cache = model.init_cache(work.batch, work.context, source=work.source)
    counted = kv_cache(model.spec, work.context, work.batch, "bf16", source=work.source).total
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
        self.model, self.logits, self.inputs = model, work.logits, inputs_of(model, work)
        self.cache: Cache | None = None
        if work.new < work.context:
            self.cache = model.init_cache(work.batch, work.context, source=work.source)
            self.cache.position = work.context - work.new  # as if these had gone by: on meta nothing is read

    def forward(self, *tensors: Tensor) -> Tensor:
        given = {"ids": None} | dict(zip(self.inputs, tensors, strict=True))
        return self.model(cache=self.cache, logits=self.logits, **given)


def traced_flops(model: Decoder, work: Workload) -> int:
    """FLOPs by torch's FlopCounterMode; with work.train, of the backward pass too."""
    run = Run(model, work)
    with torch.set_grad_enabled(work.train), FlopCounterMode(display=False) as counter:
        made = run(*run.inputs.values())
        if work.train:
            made.sum().backward()
    return counter.get_total_flops()


@torch.no_grad()
def traced_macs(model: Decoder, work: Workload) -> tuple[int, Counter[str]]:
    """Multiply-adds by fvcore, and the operations without a formula that might hold more of them."""
    run = Run(model, work)
    analysis = FlopCountAnalysis(run, tuple(run.inputs.values()))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle("aten::layer_norm", lambda *_: 0)  # 5 an element to fvcore; here matrix products alone count
    macs = analysis.total()
    uncounted = {op: n for op, n in analysis.unsupported_ops().items() if op.removeprefix("aten::") not in HARMLESS}
    return int(macs), Counter(uncounted)
