"""A sweep's command line, before Hydra reads it: the study is spelled out, value axes are folded into `grid`.

Hydra composes a configuration for each job, which costs a tenth of a second: a design point must not be a job, nor a
device. So groups (model, workload, precision, engine) stay Hydra's dimensions, `model.attention.n_kv_heads=1,2,4`
becomes an axis that one job evaluates, and `hardware=l4,t4` a list whose blocks one job makes one after another.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archlab.errors import SpecError
from archlab.paths import user_dir
from archlab.sweep.argv_asked import asked_of, known_columns
from archlab.sweep.argv_axes import fold
from archlab.sweep.argv_checks import check_groups, check_settings
from archlab.sweep.argv_sizes import sizes
from archlab.sweep.argv_words import (
    GROUPS,
    LAUNCHER,
    OWN,
    default_names,
    only_shows,
    quoted,
    settings_of,
    split_flags,
    text_of,
)
from archlab.sweep.naming import model_files
from archlab.sweep.provenance import hash_of
from archlab.sweep.study import Study, hydra_text, load_study, objectives_of, overrides


@dataclass(frozen=True)
class Command:
    """What to hand to Hydra, and what was asked."""

    flags: list[str]
    settings: dict[str, str]  # key -> override, the last one given
    study: Study | None
    name: str
    out: str
    run_id: str  # the same for the same settings, whatever the folder
    files: Mapping[str, dict[str, Any]]  # models given by path, by what Hydra calls them
    jobs: int
    points: int
    axis: str = ""  # which evidence of quality the study asks about
    quality: str | None = None  # a table of losses or scores
    axes: Mapping[str, list[Any]] = field(default_factory=dict)  # of the grid

    def argv(self, here: bool = False) -> list[str]:
        """Flags last: Hydra wants the overrides in one piece, and a flag would take one as its value.

        `here`: one job after another in this process, whatever launcher was asked for.
        """
        given = {k: w for k, w in self.settings.items() if not (here and k.startswith((LAUNCHER, "hydra.launcher")))}
        return [*given.values(), *self.flags]

    @property
    def measure(self) -> str:
        """auto | never."""
        if "measure" in self.settings:
            return text_of(self.settings["measure"])
        return self.study.measure if self.study else "never"

    @property
    def only_shows(self) -> bool:
        """Whether a flag asks Hydra to show something instead of running."""
        return only_shows(self.flags)


def prepare(words: list[str]) -> Command:
    """Reads the words of a sweep's command line. Raises ArchlabError with one sentence."""
    flags, words = split_flags(words)
    own_config = any(f.startswith(("--config", "-cd", "-cn", "-cp")) for f in flags)
    typed = settings_of(words)
    for key in (k for k in OWN if k in typed):
        raise SpecError(f"{key} is set by archlab; leave it out")
    name, study = load_study(text_of(typed["study"])) if "study" in typed else ("sweep", None)
    given, axes = fold(({} if study is None else settings_of(overrides(study))) | quoted(typed))
    files = _checked(given, axes, own_config)
    asked = asked_of(given, study, None if own_config else known_columns(given, axes, files))
    given.setdefault("objectives", f"objectives={hydra_text([str(o) for o in objectives_of(asked)])}")
    axis = text_of(given.pop("axis", "axis=")) or name
    quality = _quality(given, typed.get("study"))
    jobs, points = sizes(given, axes)
    run_id = _run_id(given, files, quality)
    out = text_of(given["out"]) if "out" in given else _folder(name, run_id, typed)
    given |= {"run_id": f"run_id={run_id}", "out": f"out={hydra_text(out)}"}
    _add_search_path(given, Path(out), files)
    _fold_devices(given)
    flags = _as_many(flags, given)
    study = study and _as_asked(study, given)
    return Command(flags, given, study, name, out, run_id, files, jobs, points, axis, quality, axes)


def _checked(given: dict[str, str], axes: Mapping[str, Any], own_config: bool) -> dict[str, dict[str, Any]]:
    """Models given by path, by what Hydra calls them, once all that is given can be. Raises ArchlabError.

    In `given` those names take the place of the paths.
    """
    check_settings(given)
    models = text_of(given["model"]).split(",") if "model" in given else []
    choices, files = model_files(models)
    if files:
        given["model"] = f"model={','.join(choices)}"
    if not own_config:
        check_groups(given, files, axes)
        first = text_of(given.get("workload", f"={default_names()['workload']}")).split(",")[0]
        given.setdefault("hold_workload", f"hold_workload={first}")
    return files


def _quality(given: dict[str, str], study: str | None) -> str | None:
    """The user's table, taken out of `given`: as it is given, or beside the study's file. Raises SpecError for none."""
    path = text_of(given.pop("quality", "quality=null"))
    if path in ("", "null"):
        return None
    places = [Path(path)] if study is None else [Path(path), Path(text_of(study)).parent / path]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise SpecError(f"quality={path!r} is no file; it is a table of losses or scores: csv, tsv, jsonl or parquet")
    return str(found)


def _run_id(given: Mapping[str, str], files: Mapping[str, Any], quality: str | None) -> str:
    """The same for the same settings, models and table, wherever the run goes and however it is spread."""
    told = {k: w for k, w in given.items() if k not in ("out", "parts", "part") and not k.startswith("hydra")}
    table = [] if quality is None else [Path(quality).read_bytes().hex()]
    return hash_of([told, files, *table])[:12]


def _folder(name: str, run_id: str, typed: Mapping[str, str]) -> str:
    """Where a run goes: a study as it is has its own name; with changes, those' hash behind it."""
    changed = [k for k in typed if k not in ("study", "out", "measure") and not k.startswith("hydra")]
    return f"runs/{name}" if "study" in typed and not changed else f"runs/{name}-{run_id[:6]}"


def _as_many(flags: list[str], given: dict[str, str]) -> list[str]:
    """The flags with -m where there are several jobs; where Hydra only shows, the first of them in `given`."""
    dimensions = (*GROUPS, "part")
    if only_shows(flags):
        given |= {key: given[key].split(",")[0] for key in dimensions if key in given}
        return [f for f in flags if f not in ("-m", "--multirun")]
    several = LAUNCHER in given or any("," in given.get(key, "") for key in dimensions)
    return [*flags, "-m"] if several and not {"-m", "--multirun"} & set(flags) else flags


def _fold_devices(given: dict[str, str]) -> None:
    """Several devices are a list that each job goes through, from the first on."""
    devices = text_of(given.get("hardware", "")).split(",")
    if len(devices) > 1:
        given |= {"hardware": f"hardware={devices[0]}", "devices": f"devices={hydra_text(devices)}"}


def _add_search_path(given: dict[str, str], out: Path, files: Mapping[str, Any]) -> None:
    """The user's conf/ and the folder that the given models are put into, for Hydra to find."""
    folders = [user_dir()] if user_dir().is_dir() else []
    folders += [out.resolve() / "conf"] if files else []
    if folders and "hydra.searchpath" not in given:
        given["hydra.searchpath"] = f"hydra.searchpath={hydra_text([f'file://{f.resolve()}' for f in folders])}"


def _as_asked(study: Study, given: Mapping[str, str]) -> Study:
    """The study with what the command line changed of how a budget is held, for its stand-in on a CPU."""
    hold, multiple = text_of(given["hold"]), text_of(given["hold_multiple"])
    by = text_of(given.get("hold_by", f"={study.hold_by}"))
    number = None if multiple == "null" else int(multiple)
    return replace(study, hold=None if hold == "null" else hold, hold_multiple=number, hold_by=by)


def spoken(words: list[str]) -> str:
    """The command as a person would type it again."""
    return shlex.join(["archlab", "sweep", *(w.removeprefix("study=") for w in words)])
