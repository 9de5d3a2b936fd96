"""One job of a sweep, wherever a launcher puts it: it stores its blocks' parts, says what it did in its log, and prints
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from archlab import yamlfile
from archlab.config import named
from archlab.errors import ArchlabError
from archlab.paths import data_dir, user_dir
from archlab.presets import read
from archlab.sweep.argv_words import GROUPS
from archlab.sweep.block import Block, block_config, read_block, run_block
from archlab.sweep.joblog import Entry, JobLog, read_sheet, whole
from archlab.sweep.naming import choice_of, literal
from archlab.sweep.store import StoreError

Plain = Mapping[str, Any]


@hydra.main(version_base="1.3", config_path=str(data_dir("conf")), config_name="config")
def job(config: DictConfig) -> None:
    """Evaluates its blocks, or its share of their parts, into OUT/blocks. One that has ended before does nothing."""
    logs, number = Path(config.log), _number()
    if whole(logs, number):
        return
    try:
        log = JobLog(logs, number)
        for entry in _entries(config, read_sheet(logs)):
            log.add(entry)
        log.end()
    except (StoreError, OSError):  # no place to say it: the parent finds a job that did not end
        return


def _entries(config: DictConfig, sheet: Plain) -> Iterator[Entry]:
    """What became of each part of each block; a block that fails does not stop the others."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    here = {group: str(plain[group].get("name")) for group in GROUPS}
    try:
        _same_user_folder(sheet["user_dir"])
        plain |= {"grid": sheet["grid"]}
        changed = _changed(config)
        devices = _devices(plain, changed)
    except ArchlabError as problem:
        yield here | {"reason": str(problem)}
    except Exception as problem:
        yield here | {"failed": _said(problem)}
    else:
        for device in devices:
            yield from _of_block(plain | {"hardware": device}, changed, sheet["command"])


def _of_block(plain: Plain, changed: Plain, command: str) -> Iterator[Entry]:
    """The parts of a block, or why there are none: wrong for all of it, or failed and worth another try."""
    here: Entry = {group: str(plain[group].get("name")) for group in GROUPS}
    block: Block | None = None
    try:
        block = read_block(block_config(plain, _model_keys(plain["out"]), changed))
        folder = Path(plain["out"]) / "blocks"
        yield from run_block(block, folder, int(plain["part"]), int(plain["parts"]), made={"command": command})
    except StoreError as problem:
        yield here | {"failed": str(problem), "ends": True}
    except ArchlabError as problem:  # wrong for every point of this block; the others go on
        yield here | {"reason": str(problem)}
    except Exception as problem:  # of whatever kind: a row says it, and the parent tries again
        yield here | {"failed": _said(problem)} | ({} if block is None else {"config": block.name})


def _said(problem: Exception) -> str:
    first = (str(problem).splitlines() or [""])[0]
    return f"{type(problem).__name__}: {first}".strip(": ")


def _changed(config: DictConfig) -> dict[str, Any]:
    """What the command line changed in the files of the groups."""
    overrides = [o.lstrip("+") for o in HydraConfig.get().overrides.task]
    found = {k: OmegaConf.select(config, k) for k in (o.partition("=")[0] for o in overrides) if "." in k}
    return {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in found.items()}


def _devices(plain: Plain, changed: Plain) -> list[dict[str, Any]]:
    """The devices of a job, with the keys of theirs that the command line changed."""
    if not plain["devices"]:
        return [plain["hardware"]]
    found = [named(yamlfile.read(path := _file("hardware", name)), path) for name in plain["devices"]]
    for device in found:
        for key, value in changed.items():
            group, _, name = key.partition(".")
            if group == "hardware":
                *sections, last = name.split(".")
                reduce(lambda data, section: data.setdefault(section, {}), sections, device)[last] = value
    return found


def _model_keys(out: str) -> dict[str, Any]:
    """The model's keys as archlab's own loader reads the file that Hydra found: one inheritance, one set of checks."""
    path = _file("model", HydraConfig.get().runtime.choices["model"])
    data = read(path)
    if path.resolve().is_relative_to((Path(out) / "conf").resolve()):  # the sweep wrote it, of one given by path
        data = literal(data)
    return data if path.stem == choice_of(str(data["name"])) else named(data, path)


def _file(group: str, name: str) -> Path:
    """The file that Hydra finds for a group's name."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path) for source in sources if source.schema == "file"]
    return next(found for folder in folders if (found := folder / group / f"{name}.yaml").is_file())


def _same_user_folder(path: str) -> None:
    """On another machine, or in another folder, the user's own conf/ is still the one of the command line."""
    if str(user_dir().resolve()) != path:
        os.environ["ARCHLAB_CONFIG_DIR"] = path


def _number() -> int:
    number = HydraConfig.get().job
    return 0 if OmegaConf.is_missing(number, "num") else int(number.num)
