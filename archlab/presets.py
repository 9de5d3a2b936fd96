"""The one loader: reads, inherits, overrides and checks model YAML, for the API, the command line and Hydra alike.

A model file starts from another with Hydra's own `defaults: [gemma-2b, _self_]`; what it then says is laid over
that as overrides are. A key that could have no effect (another one shadows it, or no layer is of its kind) is refused.
A model is called by the `name:` of its own file, and by that file's name where it says none.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.assemble import resolve
from archlab.config import named
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.paths import data_dir, group_files, shipped_files
from archlab.schema import flat, override
from archlab.spec import ModelSpec

HUB = "hf:"
"""What stands before the name of a repository whose config.json is to be fetched: hf:google/gemma-2-2b."""


def models() -> list[str]:
    """Names of the presets, smaller sizes first within a family: 270m, 1b, 4b, 27b."""
    return sorted(group_files("model"), key=_by_size)


def is_released(name: str) -> bool:
    """Whether archlab brings the model: not one of the user's own folder, nor what a file calls itself."""
    return name in shipped_files("model")


_SIZE = re.compile(r"-(\d+)(m|b)(?![a-z0-9])")


def _by_size(name: str) -> tuple[str, float, str]:
    size = _SIZE.search(name)
    if size is None:
        return name, 0.0, name
    return _SIZE.sub("", name), float(size[1]) * (1e-3 if size[2] == "m" else 1), name


def load(model: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """A preset, or the path of a model YAML, a config.json or its folder, with dotted keys replaced.

    `overrides`: {"attention.n_kv_heads": 1}. A folder may have a plain name, unless a preset has it. The spec's name is
    what the file says, and the file's own where it says none.

    Raises ArchlabError with one sentence for anything that cannot be: UnknownNameError for a name that is not there,
    SpecError for a value or a combination that breaks a rule.
    """
    if not isinstance(model, str | os.PathLike):
        raise SpecError(f"a model is a name or a path, not a value of type {type(model).__name__}")
    data = read(model)
    if is_path(model):
        with yamlfile.naming(model):
            resolve(data)
    return resolve(override(data, overrides or {}))


def read(model: str | Path) -> dict[str, Any]:
    """The keys of a preset or of a file, inheritance done; checked only by `resolve`."""
    if str(model).startswith(HUB):
        from archlab.hf.configs import read_hub

        return read_hub(str(model))
    if is_path(model):
        return _inherit(Path(model), ())
    found = group_files("model")
    if str(model) not in found:
        raise UnknownNameError(_unknown(str(model)))
    path = found[str(model)]
    return copy.deepcopy(_preset(path, path.stat().st_mtime_ns))


def _unknown(name: str) -> str:
    """Of a model that was announced and never published what is known of it; else the nearest name that is there."""
    unpublished = yamlfile.read(data_dir("conf") / "unpublished.yaml")
    if name in unpublished:
        told = unpublished[name]
        return f"the configuration of {name} was never published; known is {told['known']} ({told['source']})"
    return f"unknown model {name!r}{nearest(name, [*group_files('model'), *unpublished])} (archlab models lists them)"


def is_path(model: str | Path) -> bool:
    """Whether a model is given by path, or from the Hub, and not by the name of a preset."""
    if Path(model).suffix in (".yaml", ".yml", ".json") or "/" in str(model):
        return True
    return _has_config(Path(model)) and str(model) not in group_files("model")


def _has_config(path: Path) -> bool:
    return os.path.isfile(path / "config.json")  # noqa: PTH113 false for a name too long, where Path's raises


@lru_cache(maxsize=256)
def _preset(path: Path, _changed: int) -> dict[str, Any]:
    return named(_inherit(path, ()), path)


def _inherit(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.suffix == ".json" or _has_config(path):
        from archlab.hf.configs import read_config

        return read_config(path)
    own = yamlfile.read(path)
    own.setdefault("name", path.stem)
    bases = own.pop("defaults", None)
    if bases is None:
        return own
    names = bases[:1] if isinstance(bases, list) and bases[1:] == ["_self_"] else []
    if not names or not isinstance(names[0], str):
        raise SpecError(f"{path}: defaults must be [MODEL, _self_], the one model that this file starts from")
    beside = path.parent / f"{names[0]}.yaml"
    base = beside if beside.is_file() else group_files("model").get(names[0])
    if base is None:
        raise UnknownNameError(f"{path}: {_unknown(names[0])}")
    if base in (path, *children):
        raise SpecError(f"{path}: defaults go round in a circle through {names[0]!r}")
    with yamlfile.naming(path):
        return override(_inherit(base, (path, *children)), dict(flat(own)))
