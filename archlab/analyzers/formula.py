"""The formulas themselves: an analyzer run on sympy symbols, so that a report prints what was computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archlab.algebra import Number
from archlab.analyzers.flops import flops
from archlab.analyzers.kv_cache import kv_cache
from archlab.analyzers.params import params
from archlab.assemble import resolve
from archlab.errors import UnknownNameError, nearest
from archlab.schema import override
from archlab.spec import ModelSpec
from archlab.workload import Workload

METRICS = ("params", "kv_cache", "flops_prefill", "flops_decode")

LETTERS = {
    "d_model": "D", "n_layers": "L", "vocab_size": "V", "attention.n_heads": "N", "attention.n_kv_heads": "K",
    "attention.head_dim": "H", "local.window": "W", "mlp.d_ff": "F",
}  # fmt: skip
"""Key -> the letter that stands for it in a formula."""


def formula(metric: str, spec: ModelSpec, letters: Sequence[str] = ()) -> Any:
    """A metric as a sympy expression in S (context, tokens), B (batch), E (tokens of a source), and the keys' letters.

    metric   params (a count) | kv_cache (bytes in bf16) | flops_prefill (of S tokens, logits of the last) |
             flops_decode (of one token that ends at S)
    letters  keys of the model that stay symbols: d_model D, n_layers L, attention.n_kv_heads K ... (LETTERS)
    Raises UnknownNameError for a metric or a key that has none.

    >>> formula("kv_cache", archlab.load("gemma-2-9b"))
    172032*B*S + 172032*B*Min(4096, S)
    """
    if metric not in METRICS:
        raise UnknownNameError(f"unknown metric {metric!r}{nearest(metric, METRICS)} (known: {', '.join(METRICS)})")
    import sympy

    def symbol(name: str) -> Number:
        return sympy.Symbol(name, integer=True, positive=True)

    unknown = [key for key in letters if key not in LETTERS]
    if unknown:
        raise UnknownNameError(f"no letter stands for {unknown[0]!r}{nearest(unknown[0], LETTERS)}")
    if letters:
        spec = resolve(override(dict(spec.data), {key: symbol(LETTERS[key]) for key in letters}))
    batch, context = symbol("B"), symbol("S")
    source = symbol("E") if spec.encoder is not None else 0
    work = Workload(batch, new=context, context=context, logits="last", source=source, new_source=source)
    computed = {
        "params": lambda: params(spec).total,
        "kv_cache": lambda: kv_cache(spec, context, batch, source=source).total,
        "flops_prefill": lambda: flops(spec, work).total,
        "flops_decode": lambda: flops(spec, work.decode()).total,
    }[metric]()
    return sympy.expand(_grouped(computed))


def _grouped(computed: Any) -> Any:
    """Query heads a KV head are n_heads / n_kv_heads, which the rules keep whole: nothing is rounded."""
    import sympy

    heads = sympy.Symbol(LETTERS["attention.n_kv_heads"], integer=True, positive=True)
    rounded = [e for e in sympy.sympify(computed).atoms(sympy.floor) if sympy.denom(e.args[0]) == heads]
    return computed if not rounded else computed.subs({e: e.args[0] for e in rounded})
