"""Which single operations are timed: exact shapes of models, and grids of sizes that the laws are fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from archlab.analyzers.kernels import AnyKernel, Attention, Linear, Vector, kernels
from archlab.blocks.masks import causal_pairs
from archlab.ledger import ledger
from archlab.precision import load_precision
from archlab.spec import ModelSpec
from archlab.workload import Workload

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """m rows times a matrix of n outputs and k inputs."""

    m: int
    n: int
    k: int

    def warm(self) -> list[Shape]:
        """Shapes of what the kernel before has made."""
        return [(1, self.m, self.k)]

    def cold(self) -> Shape | None:
        """Shape of what is read from memory."""
        return (self.n, self.k)

    def kernel(self, itemsize: int) -> AnyKernel:
        """The kernel that it is, in the numbers that laws take."""
        m, n, k = self.m, self.n, self.k
        return Linear("", 1, 2 * m * n * k, n * k * itemsize, (m * k + m * n) * itemsize, batch=1, m=m, n=n, k=k)


@dataclass(frozen=True)
class Attend:
    """Attention of `new` tokens over `keys` keys: one token over a cache, or a first pass over the tokens alone."""

    batch: int
    kv: int
    group: int
    dim: int
    new: int
    keys: int
    window: int | None = None
    cap: bool = False

    @property
    def step(self) -> bool:
        """Whether it is one token over a cache."""
        return self.new == 1

    @property
    def pairs(self) -> int:
        """(token, key) pairs that the mask keeps."""
        return self.keys if self.step else causal_pairs(self.new, self.keys, self.window)

    def warm(self) -> list[Shape]:
        """Shapes of what the kernel before has made: a packed row, or queries, keys and values."""
        heads = self.kv * self.group
        if self.step:
            return [(self.batch, 1, (heads + 2 * self.kv) * self.dim)]
        return [(self.batch, self.new, n, self.dim) for n in (heads, self.kv, self.kv)]

    def cold(self) -> Shape | None:
        """Shape of what is read from memory: a cache."""
        return (2, self.batch, self.keys, self.kv, self.dim) if self.step else None

    def kernel(self, itemsize: int) -> AnyKernel:
        """The kernel that it is, in the numbers that laws take."""
        heads = self.batch * self.kv * self.dim
        stored, moved = 2 * heads * self.keys * itemsize, 2 * heads * self.group * self.new * itemsize
        cut = self.window is not None and self.keys > self.window
        return Attention(
            "", 1, 4 * heads * self.group * self.pairs, stored, moved, batch=self.batch, kv_heads=self.kv,
            groups=self.group, head_dim=self.dim, new=self.new, keys=self.keys, pairs=self.pairs, window=self.window,
            cut=cut, causal=True, capped=self.cap,
        )  # fmt: skip


@dataclass(frozen=True)
class Elementwise:
    """A norm with its residual sum, or a gate: tanh GELU of one half of a row times the other."""

    form: str  # norm | gate
    rows: int
    width: int

    def warm(self) -> list[Shape]:
        """Shapes of what the kernel before has made."""
        return [(1, self.rows, self.width)] * 2

    def cold(self) -> Shape | None:
        """Nothing: a gain is too small to count."""
        return None

    def kernel(self, itemsize: int) -> AnyKernel:
        """The kernel that it is, counted as the rows do: a norm reads a tensor and leaves one, a gate reads two."""
        tensors, per, gain = {"norm": (2, 4, self.width), "gate": (3, 9, 0)}[self.form]
        n = self.rows * self.width
        return Vector("", 1, 0, gain * itemsize, tensors * n * itemsize, per * n)


Operation = Product | Attend | Elementwise
KINDS: Mapping[str, type[Operation]] = {"linear": Product, "attention": Attend, "vector": Elementwise}


def name_of(operation: Operation) -> str:
    """'linear batch=1 m=1 n=4096 k=3584': the exact shape, as a calibration files it."""
    key = operation.kernel(1).key
    return key or " ".join(["vector", *(f"{k}={v}" for k, v in asdict(operation).items())])


def operation_from(data: Mapping[str, Any]) -> Operation:
    """What a record says was timed. Raises KeyError or TypeError for another thing."""
    return KINDS[data["kind"]](**{k: v for k, v in data.items() if k != "kind"})


def operations_of(spec: ModelSpec, works: Iterable[Workload], precision: str = "bf16") -> list[Operation]:
    """The exact linear and attention shapes of workloads, each once: with them measured, a prediction is composed."""
    rows = (kernel for work in works for kernel in kernels(ledger(spec, work), load_precision(precision)))
    found = (operation_of(kernel) for kernel in rows)
    return list(dict.fromkeys(operation for operation in found if operation is not None))


def operation_of(kernel: AnyKernel) -> Operation | None:
    """A kernel as it would be timed; None for a mixture's, for masks that are not causal, and for elementwise ones."""
    if isinstance(kernel, Linear):
        return Product(kernel.m, kernel.n, kernel.k) if kernel.batch == 1 else None
    if not isinstance(kernel, Attention) or not kernel.causal:
        return None
    shape = (kernel.batch, kernel.kv_heads, kernel.groups, kernel.head_dim, kernel.new, kernel.keys)
    made = Attend(*shape, kernel.window if kernel.cut and kernel.new > 1 else None, kernel.capped)
    timed = made.step or made.new == made.keys
    return made if timed and made.pairs == kernel.pairs else None


def operations_for(device_type: str, quick: bool = False) -> list[Operation]:
    """Enough of each sort for the laws, of the sizes that suit a device (cpu or cuda)."""
    grid = QUICK if quick else GRIDS[device_type]
    return list(dict.fromkeys([*_products(grid), *_attentions(grid), *_elementwise_sizes(grid)]))


@dataclass(frozen=True)
class Grid:
    """Sizes of the operations; attention is (kv, group, dim)."""

    matrices: tuple[tuple[int, int], ...]
    rows: tuple[int, ...]
    heads: tuple[tuple[int, int, int], ...]
    batches: tuple[int, ...]
    keys: tuple[int, ...]
    tokens: tuple[int, ...]
    windows: tuple[int, ...]
    vectors: tuple[tuple[int, int], ...]


def _products(grid: Grid) -> Iterator[Operation]:
    return (Product(m, n, k) for m in grid.rows for n, k in grid.matrices)


def _attentions(grid: Grid) -> Iterator[Operation]:
    for cap in (False, True):
        for heads in grid.heads:
            for batch in grid.batches:
                yield from (Attend(batch, *heads, 1, keys, cap=cap) for keys in grid.keys)
            for new in grid.tokens:
                for window in (None, *(w for w in grid.windows if w < new)):
                    yield Attend(1, *heads, new, new, window, cap)


def _elementwise_sizes(grid: Grid) -> Iterator[Operation]:
    return (Elementwise(form, rows, width) for form in ("norm", "gate") for rows, width in grid.vectors)


QUICK = Grid(
    matrices=((64, 64), (256, 64), (128, 256)), rows=(1, 8, 64, 128), heads=((1, 2, 16), (2, 2, 16)), batches=(1, 2),
    keys=(32, 128), tokens=(32, 64), windows=(16,), vectors=((1, 64), (16, 256), (64, 64)),
)  # fmt: skip
GRIDS = {
    "cpu": Grid(
        matrices=((1536, 640), (4096, 640), (640, 2048), (2048, 2048), (8192, 1024), (640, 1024), (32768, 640)),
        rows=(1, 8, 64, 512),
        heads=((1, 4, 256), (4, 1, 256), (2, 4, 64)),
        batches=(1, 4),
        keys=(128, 512, 4096),
        tokens=(128, 512, 1024),
        windows=(128, 512),
        vectors=((1, 640), (1, 4096), (64, 2048), (512, 640), (512, 4096)),
    ),
    "cuda": Grid(
        matrices=(
            (4096, 3584), (8192, 3584), (28672, 3584), (3584, 14336), (3840, 3840), (15360, 2560), (2560, 10240),
            (5376, 21504), (1536, 1152), (1152, 6912), (65536, 3840),
        ),
        rows=(1, 8, 128, 512, 2048, 8192),
        heads=((8, 2, 256), (1, 16, 256), (16, 2, 128)),
        batches=(1, 32),
        keys=(512, 2048, 16384),
        tokens=(1024, 8192),
        windows=(1024, 4096),
        vectors=((1, 3584), (64, 3584), (1024, 3840), (8192, 3584), (8192, 14336)),
    ),
}  # fmt: skip
"""The CPU's are those of small models; the GPU's of 1B to 27B."""
