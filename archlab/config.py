"""The small groups of conf/: workloads and precisions by name, from the user's folder or the shipped one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.errors import UnknownNameError, nearest
from archlab.paths import group_files
from archlab.spec import Precision, Workload, check_fields, choice, size, text
from archlab.units import tokens


@dataclass(frozen=True)
class Serving:
    """What a file of conf/workload/ says: a context to fill, then to go on from."""

    name: str = text("how the workload is called")
    title: str = text("what it stands for", "")
    batch: int = size("sequences at once", 1)
    context: int = size("tokens of a sequence: prefilled at once, and where a decode step ends")
    logits: str = choice("rows of logits in prefill: servers need the last, training all", ("last", "all"), "last")


def group_file(group: str, what: str, name: str | Path) -> dict[str, Any]:
    """The keys of a file of a conf group, by name or by path. Raises ArchlabError."""
    if str(name).endswith((".yaml", ".yml")):
        return yamlfile.read(Path(name))
    found = group_files(group)
    if str(name) not in found:
        known = ", ".join(sorted(found)) if len(found) <= 12 else f"archlab {group} lists them"
        raise UnknownNameError(f"unknown {what} {str(name)!r}{nearest(str(name), found)} ({known})")
    return yamlfile.read(found[str(name)])


def load_precision(name: str | Path | Precision) -> Precision:
    """A precision by name (bf16, fp8 ...), from a file, or as it is. Raises ArchlabError."""
    return name if isinstance(name, Precision) else _precision(str(name))


@lru_cache(maxsize=64)
def _precision(name: str) -> Precision:
    return precision_from(group_file("precision", "precision", name))


def precision_from(data: Mapping[str, Any]) -> Precision:
    """A precision from its keys. Raises SpecError."""
    check_fields(Precision, "precision", data)
    return Precision(**data)


def load_workload(name: str | Path | Workload) -> Workload:
    """The prefill of a named workload (`.decode()` is its step), or a workload as it is. Raises ArchlabError."""
    return name if isinstance(name, Workload) else workload_from(group_file("workload", "workload", name))


def workload_from(data: Mapping[str, Any]) -> Workload:
    """A workload from its keys. Raises SpecError."""
    if "context" in data:
        data = {**data, "context": tokens(data["context"], "workload.context")}
    check_fields(Serving, "workload", data)
    serving = Serving(**data)
    return Workload(serving.batch, new=serving.context, context=serving.context, logits=serving.logits)
