"""What a process takes besides weights, cache and activations: conf/runtime.yaml, numbers with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from archlab import yamlfile
from archlab.items import Item
from archlab.paths import data_dir
from archlab.units import memory

if TYPE_CHECKING:
    from archlab.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Overhead:
    """One entry of the file. Empty `devices` names all of the vendors'."""

    kind: str
    engines: tuple[str, ...]
    vendors: tuple[str, ...]
    devices: tuple[str, ...]
    unless: str | None
    by_ranks: tuple[tuple[int, int], ...]
    basis: str
    formula: str
    source: str

    def names(self, engine: str, device: Hardware) -> bool:
        """Whether it is about this engine on this device."""
        return (
            engine in self.engines
            and device.vendor in self.vendors
            and (not self.devices or any(fnmatchcase(device.name, pattern) for pattern in self.devices))
        )

    def bytes_of(self, ranks: int) -> int:
        """Bytes of one rank among so many: of the next number that the file has, else of its last."""
        if ranks < self.by_ranks[0][0]:
            return 0
        return next((n for upto, n in self.by_ranks if ranks <= upto), self.by_ranks[-1][1])


def overheads(engine: str, device: Hardware, ranks: int, without: frozenset[str] = frozenset()) -> tuple[Item, ...]:
    """The items of one rank. `without`: the options that are on."""
    found: dict[str, Item] = {}
    for entry in _entries():
        if entry.kind in found or not entry.names(engine, device) or entry.unless in without:
            continue
        taken = entry.bytes_of(ranks)
        if taken:
            found[entry.kind] = Item("runtime", entry.kind, taken, entry.formula, entry.source, entry.basis)
    return tuple(found.values())


def unknown_overheads(engine: str, device: Hardware) -> str | None:
    """What of a process on a device no number is known for: all that it takes besides, its context, or nothing."""
    kinds = {entry.kind for entry in _entries() if entry.names(engine, device)}
    if not kinds:
        return "what the process takes besides"
    return None if "context" in kinds else "the context of the process"


@lru_cache(maxsize=1)
def _entries() -> tuple[Overhead, ...]:
    return tuple(_entry(given) for given in yamlfile.read(data_dir("conf") / "runtime.yaml")["overheads"])


def _entry(given: Mapping[str, Any]) -> Overhead:
    sizes = given.get("by_ranks") or [[1, given["bytes"]]]
    by_ranks = tuple((ranks, memory(text)) for ranks, text in sizes)
    engines, vendors, devices = (tuple(given.get(key, ())) for key in ("engines", "vendors", "devices"))
    words = (given["basis"], given["formula"], given["source"])
    return Overhead(given["kind"], engines, vendors, devices, given.get("unless"), by_ranks, *words)
