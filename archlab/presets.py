"""The one loader: reads, inherits, overrides and checks model YAML, for the API, the command line and Hydra alike.

A model file starts from another with Hydra's own `defaults: [gemma-2b, _self_]`; what it then says is laid over
that as overrides are. A key that could have no effect (another one shadows it, or no layer is of its kind) is refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.assemble import resolve
from archlab.config import named
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.paths import group_files
from archlab.schema import flat, override
from archlab.spec import ModelSpec


def models() -> list[str]:
    """Names of the presets, smaller sizes first within a family: 270m, 1b, 4b, 27b."""
    return sorted(group_files("model"), key=_by_size)


def _by_size(name: str) -> tuple[str, float, str]:
    size = re.search(r"-(\d+)(m|b)(?![a-z0-9])", name)
    if size is None:
        return name, 0.0, name
    return name[: size.start()] + name[size.end() :], float(size[1]) * (1e-3 if size[2] == "m" else 1), name


def load(model: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """A preset's name or the path of a model YAML, with dotted keys replaced: {"attention.n_kv_heads": 1}.

    Raises ArchlabError with one sentence for anything that cannot be.
    """
    data = read(model)
    if _is_path(model):
        with yamlfile.naming(model):
            resolve(data)
    return resolve(override(data, overrides or {}))


def read(model: str | Path) -> dict[str, Any]:
    """The keys of a preset or of a file, inheritance done; checked only by `resolve`."""
    if _is_path(model):
        return _inherit(Path(model), ())
    found = group_files("model")
    if str(model) not in found:
        raise UnknownNameError(f"unknown model {str(model)!r}{nearest(str(model), found)} (archlab models lists them)")
    path = found[str(model)]
    return copy.deepcopy(_preset(path, path.stat().st_mtime_ns))


def _is_path(model: str | Path) -> bool:
    return Path(model).suffix in (".yaml", ".yml", ".json") or "/" in str(model)


@lru_cache(maxsize=256)
def _preset(path: Path, _changed: int) -> dict[str, Any]:
    return named(_inherit(path, ()), path)


def _inherit(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.suffix == ".json":
        raise SpecError(f"{path} is JSON; this version reads model YAML (archlab new writes one to start from)")
    own = yamlfile.read(path)
    bases = own.pop("defaults", None)
    if bases is None:
        return own
    names = bases[:1] if isinstance(bases, list) and bases[1:] == ["_self_"] else []
    if not names or not isinstance(names[0], str):
        raise SpecError(f"{path}: defaults must be [MODEL, _self_], the one model that this file starts from")
    beside = path.parent / f"{names[0]}.yaml"
    base = beside if beside.is_file() else group_files("model").get(names[0])
    if base is None:
        raise UnknownNameError(f"{path}: unknown model {names[0]!r}{nearest(names[0], group_files('model'))}")
    if base in (path, *children):
        raise SpecError(f"{path}: defaults go round in a circle through {names[0]!r}")
    with yamlfile.naming(path):
        return override(_inherit(base, (path, *children)), dict(flat(own)))
