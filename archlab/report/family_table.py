"""The models of a family in one table: generation, shape, parameters, cache a token and at each context, work."""

from __future__ import annotations

from archlab import units
from archlab.report import metrics, tables, words
from archlab.report.family_changes import share
from archlab.report.metrics import Metric
from archlab.report.parts import CALCULATED, Cell, Column, Table
from archlab.report.points import Cast
from archlab.report.tables import Made

_SHAPE = (
    ("n_layers", "Layers", ""), ("pattern", "Pattern", "layers of a period"), ("window", "Window", "tokens"),
    ("d_model", "d_model", ""), ("d_ff", "d_ff", ""), ("heads", "Heads", "query / KV × dim"),
    ("vocab_size", "Vocabulary", "rows"),
)  # fmt: skip
"""Column -> its head and its unit."""

FIRST = Metric("kv_first_token_bytes", "KV cache", "of the first token", words.size)
FAR = Metric("kv_far_token_bytes", "KV cache", "of a far token", words.size)
"""Every layer keeps the first token; one far behind all windows is kept by the global layers alone."""


def models_table(cast: Cast) -> Table:
    """Every model, with its generation."""
    work = metrics.flops(cast.run, "decode")[:1]
    measures = [metrics.PARAMS, FIRST, FAR, *metrics.kv_cache(cast.run), *work]
    made = [
        _generation(cast), *(_plain(cast, *told) for told in _SHAPE), _trained(cast), _share(cast),
        *(tables.metric_column(cast, m) for m in measures),
    ]  # fmt: skip
    return tables.table("points", "All models", "Model", cast.all, made)


def _generation(cast: Cast) -> Made:
    names = {model: g["name"] for g in cast.run.meta["generations"] for model in g["models"]}
    cells = [Cell(name := names.get(p.base, words.NONE), name) for p in cast.all]
    return Column("generation", "Generation", number=False), cells


def _plain(cast: Cast, key: str, head: str, unit: str) -> Made:
    return tables.plain(cast, key, head, unit, lambda row: row.get(key))


def _trained(cast: Cast) -> Made:
    return tables.plain(
        cast, "trained_context", "Trained for", "tokens", lambda r: r.get("trained_context"), units.show_tokens
    )


def _share(cast: Cast) -> Made:
    shares = [share(cast.run, p) for p in cast.all]
    cells = [Cell(words.NONE if s is None else f"{s * 100:.1f}", s, share=s) for s in shares]
    return Column("embedding_share", "Embeddings", "% of parameters", CALCULATED), cells
