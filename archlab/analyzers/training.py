"""What training stores beside the weights: gradients, optimizer states, master weights, adapters, gathered units.

Mixed-precision AdamW takes 16 bytes a parameter: 2 of weights, 2 of gradients, 4 of an fp32 copy, 8 of two moments.
ZeRO divides over the ranks that hold the same weights: stage 1 optimizer and copy, 2 gradients too, 3 weights too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from archlab.algebra import Number, ceil_div, floor_div, is_scalar, maximum, octets, plain, product, where
from archlab.errors import SpecError, nearest
from archlab.fields import check_fields, choice, fields_of, flag, names, size
from archlab.formats import FORMATS
from archlab.items import ESTIMATE, Item
from archlab.ledger import Entry, Ledger, stored
from archlab.parallel import Parallel
from archlab.precision import Precision
from archlab.rows import Weight
from archlab.units import show_count
from archlab.workload import Workload

ZERO = "ZeRO arXiv:1910.02054, section 5; PyTorch FSDP arXiv:2304.11277"
LORA = "LoRA arXiv:2106.09685"
QLORA = "QLoRA arXiv:2305.14314, section 3"
MIXED = "mixed-precision training arXiv:1710.03740; ZeRO arXiv:1910.02054, section 3.1"

TRAINABLE = ("fp32", "bf16", "fp16")
"""Formats of weights that gradients can be taken of."""

USUAL = ("q", "k", "v", "o", "gate", "up", "down")
"""Roles of the matrices that have adapters unless others are named."""

PLAIN = ("attention", "cross_attention", "mlp", "recurrent")
"""Parts whose matrices are targets by their roles alone."""

BLOCK_8BIT, LEAST_8BIT = 256, 4096
"""bitsandbytes: elements that share an fp32 scale, and those from which on a tensor's states have 8 bits."""

Shape = tuple[Number, ...]


def _eight_bits(shape: Shape, width: int) -> Number:
    n = product(shape)
    return where(n < LEAST_8BIT, 8 * n, 2 * n + 8 * ceil_div(n, BLOCK_8BIT))


def _factored(shape: Shape, width: int) -> Number:
    """A mean a row and a mean a column of each matrix (the last two axes); a vector keeps all."""
    n = product(shape)
    return width * (n if len(shape) < 2 else floor_div(n, shape[-1]) + floor_div(n, shape[-2]))


STATES: Mapping[str, tuple[Callable[[Shape, int], Number], str, str]] = {
    "adamw": (lambda shape, width: 2 * width * product(shape), "two moments", "AdamW arXiv:1711.05101"),
    "adamw_8bit": (
        _eight_bits,
        f"two moments of 8 bits, an fp32 scale for {BLOCK_8BIT}; fp32 in tensors under {LEAST_8BIT}",
        "8-bit optimizers arXiv:2110.02861; bitsandbytes: blocks of 256, min_8bit_size",
    ),
    "adafactor": (_factored, "second moments of rows and columns, no first", "Adafactor arXiv:1804.04235"),
    "lion": (lambda shape, width: width * product(shape), "one moment", "Lion arXiv:2302.06675"),
    "sgd_momentum": (lambda shape, width: width * product(shape), "momentum", "torch.optim.SGD"),
    "sgd": (lambda shape, width: 0, "none", "torch.optim.SGD"),
}
"""Optimizer -> bytes of a tensor's states from its shape and a state's bytes, in words, source. Step counters apart."""


@dataclass(frozen=True)
class Training:
    """How a model is trained, as far as memory depends on it. The ranks are `Parallel`'s."""

    optimizer: str = choice("what updates the weights, and what it remembers of each", tuple(STATES), "adamw")
    master_weights: bool = flag("weights of fewer bits have an fp32 copy that the optimizer updates", True)
    state_format: str = choice(
        "format of the optimizer's states; auto: fp32 with master weights, else that of the weights",
        ("auto", "fp32", "bf16"),
        "auto",
    )
    gradient_format: str = choice(
        "format of gradients; weights: that of the weights (fp32 where they are accumulated so: 18 bytes a parameter)",
        ("weights", "fp32", "bf16"),
        "weights",
    )
    zero: int = size("what ZeRO divides: 1 optimizer states, 2 gradients too, 3 weights too (FSDP)", 0, least=0, most=3)
    checkpointing: str = choice(
        "activations recomputed in the backward pass: none; those of attention scores; all of a layer",
        ("none", "selective", "full"),
        "none",
    )
    loss: str = choice(
        "logits: all at once; a chunk of tokens at a time; fused with the head, none stored",
        ("full", "chunked", "fused"),
        "full",
    )
    lora_rank: int | None = size("rank of adapters: only they are trained; null trains the weights", None, none=True)
    lora_targets: tuple[str, ...] = names(
        "matrices with adapters: roles of attention, MLP and recurrence, or part.role",
        USUAL,
    )
    lora_format: str = choice("format of the adapters (PEFT keeps them in fp32)", ("fp32", "bf16"), "fp32")

    def __post_init__(self) -> None:
        for name in fields_of(Training):
            object.__setattr__(self, name, plain(getattr(self, name)))
        check_fields(Training, "training", {name: getattr(self, name) for name in fields_of(Training)})
        if self.lora_rank is None:
            for name in ("lora_targets", "lora_format"):
                if getattr(self, name) != fields_of(Training)[name].default:
                    raise SpecError(f"{name} is about adapters; give lora_rank too")
        if len(set(self.lora_targets)) < len(self.lora_targets):
            raise SpecError(f"lora_targets={list(self.lora_targets)} has a target twice")

    def check_ranks(self, parallel: Parallel) -> None:
        """Raises SpecError where ZeRO has nothing to divide over."""
        ranks = parallel.dp * parallel.cp
        if self.zero and is_scalar(ranks) and ranks == 1:
            raise SpecError(f"zero={self.zero} divides over dp x cp ranks, and there is one; give dp")


def load_training(given: Training | Mapping[str, object] | None) -> Training | None:
    """A training from its keys, or as it is. Raises SpecError."""
    if given is None or isinstance(given, Training):
        return given
    if not isinstance(given, Mapping):
        raise SpecError(f"training={given!r} must be keys such as {{'optimizer': 'adamw'}}")
    check_fields(Training, "training", {str(name): plain(value) for name, value in given.items()})
    return Training(**given)  # type: ignore[arg-type]


def divided_over(stage: int, training: Training, parallel: Parallel, weight: Weight | None = None) -> Number:
    """Ranks that ZeRO divides over what its stage `stage` divides: 1 optimizer, 2 gradients, 3 weights.

    They are those that hold the same share of a weight: data- and context-parallel ones. Experts that are shared among
    replicas have fewer of these.
    """
    if training.zero < stage:
        return 1
    if weight is None or weight.routed is None:
        return parallel.dp * parallel.cp
    return floor_div(parallel.dp * parallel.cp * parallel.tp, maximum(parallel.ep, parallel.tp))


# ---------------------------------------------------------------- what is trained


@dataclass(frozen=True)
class Trained:
    """Tensors that get gradients: `count` of them, of one shape and format. `weight` is theirs, or the adapted one."""

    weight: Weight
    shape: Shape
    count: Number
    bits: int

    @property
    def numel(self) -> Number:
        """Elements of all of them."""
        return product(self.shape) * self.count


def trained(rows: Ledger, precision: Precision, training: Training) -> tuple[Trained, ...]:
    """Weights that are trained, or the adapters beside them. Raises SpecError where neither can be."""
    return tuple(_weights(rows, precision) if training.lora_rank is None else _adapters(rows, training))


def _weights(rows: Ledger, precision: Precision) -> Iterator[Trained]:
    for entry, weight, _ in stored(rows):
        if entry.in_tower and _rests(rows):
            continue  # a tower that reads nothing gets no gradients, and an optimizer keeps nothing of it
        for form, count in precision.formats(rows, entry, weight):
            if form.name not in TRAINABLE:
                raise SpecError(
                    f"precision {precision.name} cannot be trained: {entry.path}.{weight.name} is {form.name}, and "
                    f"gradients need {', '.join(TRAINABLE)}; lora_rank trains adapters beside it"
                )
            yield Trained(weight, tuple(entry.sizes[a] for a in weight.axes), count, form.bits)


def _rests(rows: Ledger) -> bool:
    """Whether no image is read in the step."""
    return rows.work is not None and is_scalar(rows.work.new_images) and rows.work.new_images == 0


def _adapters(rows: Ledger, training: Training) -> Iterator[Trained]:
    """Of a matrix from `in` to `out` elements one of rank x in and one of out x rank; frozen: everything else."""
    _check_targets(rows.whole or rows, training)
    rank, bits = training.lora_rank, FORMATS[training.lora_format].bits
    for entry, weight in targets(rows):
        if not _named(entry, weight) & set(training.lora_targets):
            continue
        experts = 1 if weight.routed is None else entry.sizes[weight.routed[1]]
        inner = entry.row_length(weight)
        outer = floor_div(floor_div(entry.numel(weight), inner), experts)
        yield Trained(weight, (rank, inner), entry.count * experts, bits)
        yield Trained(weight, (outer, rank), entry.count * experts, bits)


def _named(entry: Entry, weight: Weight) -> set[str]:
    """What a target may be called: mlp.gate, or gate."""
    return {f"{entry.part}.{weight.role}", *([weight.role] if entry.part in PLAIN else [])}


def _check_targets(rows: Ledger, training: Training) -> None:
    """The usual targets may be absent (a plain MLP has no gate), others not."""
    known = {name for entry, weight in targets(rows) for name in _named(entry, weight)}
    for target in training.lora_targets:
        if target not in known and target not in USUAL:
            raise SpecError(f"lora_targets has {target!r}{nearest(target, known)} (known: {', '.join(sorted(known))})")


def targets(rows: Ledger) -> Iterator[tuple[Entry, Weight]]:
    """Matrices of the layers of decoder and encoder, which adapters can stand beside."""
    for entry, weight, _ in stored(rows):
        if entry.kind and not entry.in_tower and weight.use == "matmul":
            yield entry, weight


# ---------------------------------------------------------------- items


def training_items(
    rows: Ledger, work: Workload, precision: Precision, training: Training, parallel: Parallel | None = None
) -> tuple[Item, ...]:
    """What a training step stores on a rank beside the weights, activations apart. Raises SpecError.

    rows  those of the rank. ZeRO-3 divides the weights themselves too: `divided_over(3, ...)` says among how many.
    """
    ranks = parallel or Parallel()
    tensors = trained(rows, precision, training)
    return (
        *_adapter_items(tensors, training, ranks),
        *_gathered(rows, precision, training, ranks),
        *_dequantised(rows, precision, training),
        *_gradients(tensors, training, ranks),
        *_optimizer(tensors, training, ranks),
    )


def _total(
    tensors: Iterable[Trained], each: Callable[[Trained], Number], stage: int, training: Training, ranks: Parallel
) -> Number:
    """Bytes of all tensors, each divided as a stage of ZeRO does."""
    found: dict[bool, Number] = {}
    over: dict[bool, Number] = {}
    for tensor in tensors:
        routed = tensor.weight.routed is not None
        found[routed] = found.get(routed, 0) + each(tensor) * tensor.count
        over[routed] = divided_over(stage, training, ranks, tensor.weight)
    return sum(ceil_div(n, over[routed]) for routed, n in found.items())


def _words(tensors: Iterable[Trained], what: str, stage: int, training: Training, ranks: Parallel) -> str:
    n, over = sum(t.numel for t in tensors), divided_over(stage, training, ranks)
    count = f"{show_count(n)} parameters" if is_scalar(n) else "parameters"
    return f"{count} x {what}" + ("" if is_scalar(over) and over == 1 else f" / {over} ranks")


def _adapter_items(tensors: tuple[Trained, ...], training: Training, ranks: Parallel) -> Iterator[Item]:
    if training.lora_rank is not None:
        n = _total(tensors, lambda t: floor_div(product(t.shape) * t.bits, 8), 3, training, ranks)
        words = _words(tensors, f"{training.lora_format}, rank {training.lora_rank} x (in + out)", 3, training, ranks)
        yield Item("weights", "adapters", n, words, LORA)


def _gradients(tensors: tuple[Trained, ...], training: Training, ranks: Parallel) -> Iterator[Item]:
    fixed = None if training.gradient_format == "weights" else FORMATS[training.gradient_format].bits
    n = _total(tensors, lambda t: floor_div(product(t.shape) * (fixed or t.bits), 8), 2, training, ranks)
    what = "the weights' own format" if fixed is None else training.gradient_format
    kind = "weights" if training.lora_rank is None else "adapters"
    yield Item("gradients", kind, n, _words(tensors, what, 2, training, ranks), MIXED if ranks.alone else ZERO)


def _optimizer(tensors: tuple[Trained, ...], training: Training, ranks: Parallel) -> Iterator[Item]:
    copied = [t for t in tensors if training.master_weights and t.bits < 32]
    if copied:
        n = _total(copied, lambda t: 4 * product(t.shape), 1, training, ranks)
        yield Item("optimizer", "master weights", n, _words(copied, "4 bytes", 1, training, ranks), MIXED)
    states, words, source = STATES[training.optimizer]
    n = _total(tensors, lambda t: states(t.shape, _width(t, training)), 1, training, ranks)
    yield Item("optimizer", "states", n, _words(tensors, words, 1, training, ranks), source)


def _width(tensor: Trained, training: Training) -> int:
    """Bytes of an element of a state that is not quantised."""
    if training.state_format != "auto":
        return FORMATS[training.state_format].bits // 8
    return 4 if training.master_weights else tensor.bits // 8


def _gathered(rows: Ledger, precision: Precision, training: Training, ranks: Parallel) -> Iterator[Item]:
    """ZeRO-3 holds a unit whole while it runs, and fetches the next: the two largest that follow one another."""
    over = divided_over(3, training, ranks)
    if is_scalar(over) and over == 1:
        return
    layers: dict[tuple[str, str, tuple[int, ...] | None], Number] = {}
    ends: dict[str, Number] = {}
    for entry, weight, _ in stored(rows):
        bits = precision.weight_bits(rows, entry, weight)
        if entry.kind:
            unit = entry.stack, entry.kind, entry.indices
            layers[unit] = layers.get(unit, 0) + floor_div(bits, entry.count)
        else:
            ends[entry.path] = ends.get(entry.path, 0) + bits
    layer, end = _largest(layers.values()), _largest(ends.values())
    yield Item(
        "weights", "gathered", octets(layer + maximum(layer, end)),
        "two units that follow one another, whole: two layers, or a layer and the largest block outside them", ZERO,
        ESTIMATE,
    )  # fmt: skip


def _dequantised(rows: Ledger, precision: Precision, training: Training) -> Iterator[Item]:
    """Frozen weights of few bits are brought to the compute format one matrix at a time."""
    if training.lora_rank is None:
        return
    matrices = [
        floor_div(entry.numel(weight), 1 if weight.routed is None else entry.sizes[weight.routed[1]])
        for entry, weight in targets(rows)
        if any(form.bits < 16 for form, _ in precision.formats(rows, entry, weight))
    ]
    if matrices:
        words = f"the largest matrix x {precision.activation_bytes} bytes"
        yield Item("weights", "dequantised", _largest(matrices) * precision.activation_bytes, words, QLORA, ESTIMATE)


def _largest(numbers: Iterable[Number]) -> Number:
    found: Number = 0
    for number in numbers:
        found = maximum(found, number)
    return found
