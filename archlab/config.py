"""The small groups of conf/: workloads by name, from the user's folder or the shipped one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.fields import check_fields, choice, size, text
from archlab.paths import group_files
from archlab.spec import ModelSpec
from archlab.units import tokens
from archlab.workload import Workload


@dataclass(frozen=True)
class Serving:
    """What a file of conf/workload/ says: a context to fill, then to go on from."""

    name: str = text("how the workload is called")
    title: str = text("what it stands for", "")
    batch: int = size("sequences at once", 1)
    context: int = size("tokens of a sequence: prefilled at once, and where a decode step ends")
    source: int | None = size(
        "tokens that an encoder reads first; null: as many as the context, in a model that has one",
        None,
        none=True,
        least=0,
    )
    images: int = size(
        "images among the context's tokens (or the source's), in a model with a vision tower", 0, least=0
    )
    prefix: int | None = size(
        "leading tokens that all see each other; null: all of the context, in a model whose mask is prefix",
        None,
        none=True,
        least=0,
    )
    logits: str = choice("rows of logits in prefill: servers need the last, training all", ("last", "all"), "last")

    def work_for(self, spec: ModelSpec) -> Workload:
        """The prefill, for a model; `.decode()` of it is the step that ends at the same context."""
        source = self.source if self.source is not None else self.context if spec.encoder is not None else 0
        prefix = self.prefix if self.prefix is not None else self.context if spec.has_prefix else 0
        return Workload(
            self.batch, new=self.context, context=self.context, logits=self.logits,
            source=source, images=self.images, prefix=prefix,
        )  # fmt: skip


def group_file(group: str, what: str, name: str | Path) -> dict[str, Any]:
    """The keys of a file of a conf group, by name or by path. Raises ArchlabError."""
    if str(name).endswith((".yaml", ".yml")) or "/" in str(name):
        return yamlfile.read(Path(name))
    found = group_files(group)
    if str(name) not in found:
        listing = {"hardware": "archlab hardware", "precision": "archlab engines"}.get(group)
        known = f"{listing} lists them" if listing else ", ".join(sorted(found))
        raise UnknownNameError(f"unknown {what} {str(name)!r}{nearest(str(name), found)} ({known})")
    return named(yamlfile.read(found[str(name)]), found[str(name)])


def named(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The keys of a file that is found by its name; SpecError where it calls itself something else."""
    if data.get("name", path.stem) != path.stem:
        raise SpecError(f"{path} says name: {data['name']}, but is found as {path.stem}; make them the same")
    return data


def load_workload(name: str | Path | Workload, spec: ModelSpec) -> Workload:
    """A named workload's prefill for a model (`.decode()` is its step), or a workload as it is. Raises ArchlabError."""
    return name if isinstance(name, Workload) else load_serving(name).work_for(spec)


def load_serving(name: str | Path) -> Serving:
    """What a named workload says. Raises ArchlabError."""
    return serving_from(group_file("workload", "workload", name))


def serving_from(data: Mapping[str, Any]) -> Serving:
    """What a workload's keys say, tokens read (8k is 8192). Raises SpecError."""
    if "context" in data:
        data = {**data, "context": tokens(data["context"], "workload.context")}
    check_fields(Serving, "workload", data)
    return Serving(**data)
