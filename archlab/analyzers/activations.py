"""The most memory that activations take in a step: what stands when it is fullest, from the rows alone.

Torch runs a block op by op. A value that a line makes stands until the last line that reads it; beside it stand what
the op says it holds. Around the block stand the residual stream and what lives across layers: masks and angles, the
encoder's output, per-layer embeddings, keys and values that later layers read. In training what autograd saves is
summed over the layers, and the fullest moment is one of the loss, the head, the first or the last layer to go backward,
and the embedding: in between, saved values go and gradients come in proportion.

With attention="fused" what never leaves the chip (`~`) takes nothing: scores, their mask and their copies. With "eager"
it is a dense rectangle of tokens and keys, several times over: what `archlab check --memory` compares with torch's
tracker. An allocator rounds, and a device has a context and workspaces besides: not counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from archlab.algebra import Number, is_column, maximum, where
from archlab.analyzers.activation_moments import PARTS, Loss, Moment, Parts, inference, training
from archlab.analyzers.activation_places import sections_of
from archlab.analyzers.liveness import How
from archlab.errors import SpecError, nearest
from archlab.ledger import Ledger, ledger
from archlab.precision import Precision, load_precision
from archlab.spec import ModelSpec
from archlab.workload import Workload

ATTENTION = ("fused", "eager")
CHECKPOINTING = ("none", "selective", "full")
LOSS = ("full", "chunked", "fused")
GRADIENTS = ("kept", "made")


@dataclass(frozen=True)
class Activations:
    """Bytes at the fullest moment.

    total      activations: all that is neither weights, cache, optimizer states nor gradients of weights
    gradients  of the weights that stand then beside them; 0 without training
    by_part    the total, split as PARTS says
    peak_at    the moment: 'global layers, attention', 'logits', 'loss'; 'varies' over columns
    formula    how it was counted, in words
    """

    total: Number
    gradients: Number
    by_part: Parts
    peak_at: str
    formula: str


def activations(
    spec: ModelSpec,
    work: Workload,
    precision: str | Precision = "bf16",
    attention: str = "fused",
    checkpointing: str = "none",
    loss: str = "full",
    gradients: str = "kept",
    chunk: int = 1024,
    rows: Ledger | None = None,
) -> Activations:
    """Bytes at the peak of a prefill (chunk) or a decode step with its cache, or of forward, loss and backward.

    precision      whose products say how wide an activation is: 2 bytes, or 4 in fp32
    attention      fused: scores stay on the chip | eager: they are stored
    checkpointing  none | selective: scores are computed again (Korthikanti et al., arXiv:2205.05198) | full: one stream
                   a layer is kept, and a layer is run again when it goes backward
    loss           full: cross-entropy in fp32 of all logits | chunked: `chunk` rows of them at a time | fused: no
                   logits are stored (Cut Your Losses, arXiv:2411.09009)
    gradients      kept: they stand throughout (several passes add up) | made: they come as the pass makes them
    rows           the rows of one rank, where several share the model; else all
    The last three and `chunk` (rows of logits) are of work.train. Logits are made of the rows that work.logits says.
    Raises ArchlabError.
    """
    for name, value, known in (("attention", attention, ATTENTION), ("checkpointing", checkpointing, CHECKPOINTING),
                               ("loss", loss, LOSS), ("gradients", gradients, GRADIENTS)):  # fmt: skip
        if value not in known:
            raise SpecError(f"{name}={value!r} must be one of {', '.join(known)}{nearest(str(value), known)}")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise SpecError(f"chunk={chunk!r} must be a whole number of 1 or more: rows of logits")
    width = load_precision(precision).activation_bytes
    how = How(width, attention == "fused", work.train, checkpointing)
    sections = [*sections_of(ledger(spec, work) if rows is None else rows, work, how)]
    if not work.train:
        return _fullest([*inference(sections)], "made", _words(how, loss, work))
    head = Loss(loss, chunk, width)
    found = _fullest([*training(sections, how, head)], gradients, _words(how, loss, work))
    if gradients == "made":
        return found
    return replace(found, gradients=sum(p.needs.weights * p.count for s in sections for p in s.places))


def _words(how: How, loss: str, work: Workload) -> str:
    scores = "attention fused, scores on the chip" if how.fused else "attention eager, scores stored"
    each = f"{how.width} bytes an activation, fp32 where the model computes in it"
    if not work.train:
        return f"stream + what lives across layers + the fullest block, or logits; {each}; {scores}"
    kept = {
        "none": "all that autograd saves, over all layers", "selective": "what autograd saves without scores",
        "full": "one stream a layer + one layer run again",
    }[how.checkpointing]  # fmt: skip
    return f"{kept} + the fullest moment of loss or backward; loss {loss}; {each}; {scores}"


def _fullest(moments: Sequence[Moment], gradients: str, formula: str) -> Activations:
    """The moment that is largest: with the gradients made by then, or by activations alone."""
    if not moments:  # a rank without layers
        return Activations(0, 0, {}, "nowhere", formula)
    every = dict.fromkeys(PARTS, 0)
    best = moments[0]
    parts, made, label = every | best.parts, best.gradients, best.label
    top = best.total + (best.gradients if gradients == "made" else 0)
    for moment in moments[1:]:
        size = moment.total + (moment.gradients if gradients == "made" else 0)
        larger = size > top
        if is_column(larger):
            label = "varies"
        elif larger:
            label = moment.label
        new = every | moment.parts
        parts = {part: where(larger, new[part], parts[part]) for part in PARTS}
        made = where(larger, moment.gradients, made)
        top = maximum(top, size)
    total = top - made if gradients == "made" else top
    return Activations(total, made, {p: n for p, n in parts.items() if is_column(n) or n}, label, formula)
