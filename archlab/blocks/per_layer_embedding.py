"""Per-layer embeddings: each layer gets a small vector of its own for each token (Gemma 3n and 4).

Once a pass, before the layers: (norm(project(x) * d_model ** -0.5) + row * sqrt(width)) / sqrt(2), one slice a layer.
In each layer: x += norm(project(gelu(gate(x)) * slice)). The table is read a row a token, so that it may live on the
host; ids beyond its rows use row 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.fields import flag, size
from archlab.layers import Block
from archlab.rows import Op, Weight, divided, lookup, matmul, norm, vector


@dataclass(frozen=True)
class PerLayerEmbedding(Block):
    """The table, and the projection of the embedding. The fields without an explanation come from the stack."""

    part = "per_layer"
    roles = ("table", "project", "norm")
    splits = divided(Z="padded table_rows", O="even width")

    d_model: Number = field(kw_only=True)
    n_layers: Number = field(kw_only=True)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=False)
    width: Number = size("width of a layer's vector")
    table_rows: Number | None = size("rows of the table; null for a projection without a table", None, none=True)
    on_host: bool = flag("the table may live in the host's memory: a row a token is read of it", True)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "L": self.n_layers, "P": self.width, "O": self.width, "Z": self.table_rows}

    def weights(self) -> Iterator[Weight]:
        if self.table_rows is not None:
            yield Weight("table", "ZLP", role="table", use="lookup", on_host=self.on_host)
        yield Weight("project", "LOD", role="project")
        yield Weight("norm", "P", role="norm", use="vector")

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.project LOD -> p BTLO")
        yield norm("p BTLP, w.norm P -> p BTLP", per=5, lasts=self.table_rows is None)
        if self.table_rows is not None:
            yield lookup("ids BT, w.table ZLP -> t BTLP")
            yield vector("t BTLP, p BTLP -> p BTLP", per=3, holds="own own", lasts=True)

    def special(self) -> Iterator[tuple[str, str]]:
        where = ", which may stay in the host's memory" if self.on_host else ""
        table = "" if self.table_rows is None else f", part of it from a table of {self.table_rows:,} rows{where}"
        yield "per-layer embeddings", f"each layer gets a vector of {self.width} for each token{table}"


@dataclass(frozen=True)
class PerLayerInput(PerLayerEmbedding):
    """What a layer does with its slice."""

    roles = ("gate", "project", "norm")
    splits = divided()

    def weights(self) -> Iterator[Weight]:
        yield Weight("gate", "PD", role="gate")
        yield Weight("project", "DP", role="project")
        yield Weight("norm", "D", role="norm", use="vector")

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.gate PD -> g BTP")
        yield vector("g BTP, p BTP -> g BTP", per=9, holds="own own", saves="g own")
        yield matmul("g BTP, w.project DP -> y BTD")
        yield norm("y BTD, w.norm D -> y BTD")

    def special(self) -> Iterator[tuple[str, str]]:
        yield from ()
