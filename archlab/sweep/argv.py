"""A sweep's command line, before Hydra reads it: the study is spelled out, value axes are folded into `grid`.

Hydra composes a configuration for each job, which costs a tenth of a second: a design point must not be a job, nor a
device. So groups (model, workload, precision, engine) stay Hydra's dimensions, `model.attention.n_kv_heads=1,2,4`
becomes an axis that one job evaluates, and `hardware=l4,t4` a list whose blocks one job makes one after another.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.analyzers.memory import setting
from archlab.assemble import resolve
from archlab.config import Serving, load_workload
from archlab.engines import ENGINES
from archlab.errors import ArchlabError, SpecError, UnknownNameError, nearest
from archlab.hardware import Hardware
from archlab.paths import data_dir, group_files, user_dir
from archlab.precision import Precision
from archlab.presets import load, read
from archlab.spec import fields_of
from archlab.sweep.axes import HARDWARE_KEYS, WORKLOAD_KEYS, axis_values
from archlab.sweep.block import LARGE_PART, PART
from archlab.sweep.hold import HELD, STEPS
from archlab.sweep.measures import Asked, measures
from archlab.sweep.naming import check_names
from archlab.sweep.notable import DEFAULTS
from archlab.sweep.provenance import hash_of
from archlab.sweep.study import (
    Study,
    check_axes,
    check_columns,
    check_texts,
    hydra_text,
    load_study,
    objectives_of,
    overrides,
)
from archlab.sweep.study_fields import MEASURE, ROWS

GROUPS = {
    "model": "model", "workload": "workload", "hardware": "device", "precision": "precision", "engine": "engine",
}  # fmt: skip
SCHEMAS = {"workload": Serving, "hardware": Hardware, "precision": Precision}
PLAIN = (
    "study", "grid", "hold", "hold_by", "hold_workload", "hold_multiple", "limits", "per_character", "where",
    "objectives", "epsilon", "axis", "quality", "rows", "sample", "parts", "part", "measure", "out", "run_id",
)  # fmt: skip
OWN = ("devices", "sample", "part", "run_id", "log")
"""Settings that archlab makes itself."""

LAUNCHER = "hydra/launcher"

MOST_ROWS = 2**20
"""Points of a run of which every row is stored, where `rows` does not say."""

MOST_TABLE = 20_000
"""Rows of a run's own table, which the report is made of: of more points, the fronts and a sample."""

MOST_PARTS = 64
"""Jobs that share the grid of one model on a cluster, where `parts` does not say."""

LOCAL = ("joblib", "slurm_local", "submitit_local")
JOBS_A_CORE = 3
"""Such jobs for each core of this machine, for the launchers that use those: some end later than others."""

SHOWING = ("--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc")
OVERRIDE = re.compile(r"^(?:~[\w./@]+(?:=.*)?|\+{0,2}[A-Za-z_][\w./@]*=.*)$", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """What to hand to Hydra, and what was asked."""

    flags: list[str]
    settings: dict[str, str]  # key -> override, the last one given
    study: Study | None
    name: str
    out: str
    run_id: str  # the same for the same settings, whatever the folder
    files: Mapping[str, dict[str, Any]]  # models given as files, by name
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
        return (
            _text(self.settings["measure"])
            if "measure" in self.settings
            else self.study.measure
            if self.study
            else "never"
        )

    @property
    def only_shows(self) -> bool:
        """Whether a flag asks Hydra to show something instead of running."""
        return _only_shows(self.flags)


def prepare(words: list[str]) -> Command:
    """Reads the words of a sweep's command line. Raises ArchlabError with one sentence."""
    flags, words = _flags(words)
    own_config = any(f.startswith(("--config", "-cd", "-cn", "-cp")) for f in flags)
    words_given = _settings(words)
    for key in (k for k in OWN if k in words_given):
        raise SpecError(f"{key} is set by archlab; leave it out")
    name, study, own = "sweep", None, {}
    if "study" in words_given:
        name, study = load_study(_text(words_given["study"]))
        own = _settings(overrides(study))
    given, axes = _fold(own | _quoted(words_given))
    files = _checked(given, axes, own_config)
    asked = _asked(given, study, None if own_config else _known_columns(given, axes, files))
    given.setdefault("objectives", f"objectives={hydra_text([str(o) for o in objectives_of(asked)])}")
    axis = _text(given.pop("axis", "axis=")) or name
    beside = None if study is None else Path(_text(words_given["study"])).parent
    quality = _quality(_text(given.pop("quality", "quality=null")), beside)
    jobs, points = _sizes(given, axes)
    told = {k: w for k, w in given.items() if k not in ("out", "parts", "part") and not k.startswith("hydra")}
    table = [] if quality is None else [Path(quality).read_bytes().hex()]
    run_id = hash_of([told, files, *table])[:12]
    plain = not [k for k in words_given if k not in ("study", "out", "measure") and not k.startswith("hydra")]
    out = _text(given["out"]) if "out" in given else _folder(name, run_id, plain and study is not None)
    given |= {"run_id": f"run_id={run_id}", "out": f"out={hydra_text(out)}"}
    _add_search_path(given, Path(out), files)
    _fold_devices(given)
    flags = _as_many(flags, given)
    if study is not None:
        study = _as_asked(study, given)
    return Command(flags, given, study, name, out, run_id, files, jobs, points, axis, quality, axes)


def _checked(given: dict[str, str], axes: Mapping[str, Any], own_config: bool) -> dict[str, dict[str, Any]]:
    """Models given as files, once all that is given can be. Raises ArchlabError."""
    _check_settings(given)
    files = _model_files(given)
    if not own_config:
        _check_names(given, files, axes)
        first = _text(given.get("workload", f"={_composed()['workload']}")).split(",")[0]
        given.setdefault("hold_workload", f"hold_workload={first}")
    return files


def _as_many(flags: list[str], given: dict[str, str]) -> list[str]:
    """The flags with -m where there are several jobs; where Hydra only shows, the first of them in `given`."""
    dimensions = (*GROUPS, "part")
    if _only_shows(flags):
        given |= {key: given[key].split(",")[0] for key in dimensions if key in given}
        return [f for f in flags if f not in ("-m", "--multirun")]
    several = LAUNCHER in given or any("," in given.get(key, "") for key in dimensions)
    return [*flags, "-m"] if several and not {"-m", "--multirun"} & set(flags) else flags


def _folder(name: str, run_id: str, plain: bool) -> str:
    """Where a run goes: a study as it is has its own name; with changes, those' hash behind it."""
    return f"runs/{name}" if plain else f"runs/{name}-{run_id[:6]}"


def _quoted(given: Mapping[str, str]) -> dict[str, str]:
    """Conditions and objectives as lists in Hydra's grammar, in which < and spaces need quotes."""
    found = dict(given)
    for key in ("where", "objectives"):
        text = _text(given.get(key, ""))
        if key in given and not text.startswith("["):
            parts = [text] if key == "where" else [part.strip() for part in text.split(",")]
            found[key] = f"{key}={hydra_text([p for p in parts if p])}"
    return found


def _asked(given: Mapping[str, str], study: Study | None, known: list[str] | None) -> Study:
    """What is asked of a sweep beyond its axes, with the command line's changes: limits, conditions, objectives.

    Raises SpecError for a condition or an objective on a column that is not among the known.
    """
    limits = _text(given.get("limits", "limits=false")) == "true"
    objectives = _list(given["objectives"]) if "objectives" in given else (study.objectives if study else ())
    where = _list(given["where"]) if "where" in given else ()
    asked = Study(question="?", base=["-"], grid={}, workloads=["-"], hardware=["-"], limits=limits,
                  objectives=objectives, where=where)  # fmt: skip
    if known is not None:
        check_columns(asked, known)
    check_texts(asked)
    return asked


def _known_columns(given: Mapping[str, str], axes: Mapping[str, Any], files: Mapping[str, Any]) -> list[str] | None:
    """The columns that the points will have: those of the first base where it runs first, and the axes; None where that
    cannot be computed, which the points then say.
    """
    first = {group: _text(given.get(group, f"={name}")).split(",")[0] for group, name in _composed().items()}
    try:
        name = first["model"]
        spec = resolve(files[name]) if name in files else load(name)
        at = setting(first["hardware"], first["precision"], first["engine"])
        asked = Asked(at, memory=True, per_character=_text(given.get("per_character", "=false")) == "true")
        found = [*measures(spec, load_workload(first["workload"], spec), asked)]
    except ArchlabError:
        return None
    limits = ["max_context", "max_batch"] if _text(given.get("limits", "=false")) == "true" else []
    return list(dict.fromkeys([*axes, *found, *limits, *DEFAULTS]))


def _composed() -> dict[str, str]:
    """Group -> the file of it that Hydra takes where nothing is said."""
    entries = yamlfile.read(data_dir("conf") / "config.yaml")["defaults"]
    return {
        group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items() if group in GROUPS
    }


def _list(word: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return [str(v) for v in _plain(OverridesParser.create().parse_override(word).value())]


def _quality(path: str, beside: Path | None) -> str | None:
    """The user's table: as it is given, or beside the study's file. Raises SpecError for one that is not there."""
    if path in ("", "null"):
        return None
    places = [Path(path)] if beside is None else [Path(path), beside / path]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise SpecError(f"quality={path!r} is no file; it is a table of losses or scores: csv, tsv, jsonl or parquet")
    return str(found)


def _sizes(given: dict[str, str], axes: Mapping[str, Any]) -> tuple[int, int]:
    """(jobs, points). Says in `given` how many jobs share a grid, and which rows are stored."""
    blocks = prod(len(_text(given.get(group, "")).split(",")) for group in GROUPS)
    devices = len(_text(given.get("hardware", "")).split(","))
    each = prod(len(values) for values in axes.values())
    points = each * blocks
    rows = _text(given.get("rows", "rows=auto"))
    if rows == "auto":
        rows = "all" if points <= MOST_ROWS else "kept"
    pieces = -(-each // (PART if rows == "all" else LARGE_PART))
    parts = int(_text(given["parts"])) if "parts" in given else min(pieces, _shares(given))
    sample = 0 if points <= MOST_TABLE else max(64, MOST_TABLE // (blocks * pieces))
    given |= {"rows": f"rows={rows}", "sample": f"sample={sample}", "parts": f"parts={parts}"}
    if parts > 1:
        given["part"] = "part=" + ",".join(map(str, range(parts)))
    return blocks // devices * parts, points


def _shares(given: Mapping[str, str]) -> int:
    """Jobs among which a launcher spreads a grid: a job costs it half a second, beside what it computes."""
    launcher = _text(given.get(LAUNCHER, "=basic"))
    if launcher == "basic":
        return 1
    return JOBS_A_CORE * (os.cpu_count() or 1) if launcher in LOCAL else MOST_PARTS


def _fold_devices(given: dict[str, str]) -> None:
    """Several devices are a list that each job goes through, from the first on."""
    devices = _text(given.get("hardware", "")).split(",")
    if len(devices) > 1:
        given |= {"hardware": f"hardware={devices[0]}", "devices": f"devices={hydra_text(devices)}"}


def _flags(words: list[str]) -> tuple[list[str], list[str]]:
    """(Hydra's flags with their values, key=value words). Raises SpecError for a flag or a word that is neither."""
    from hydra._internal.utils import get_args_parser

    known = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    flags: list[str] = []
    settings: list[str] = []
    waiting = ""  # how many values the last flag takes: "" none, "?" perhaps one, "1" one
    for word in words:
        if word.startswith("-"):
            flag, given, _ = word.partition("=")
            if flag not in known:
                raise SpecError(f"unknown option {flag}{nearest(flag, known)}")
            flags.append(word)
            waiting = "" if given or known[flag].nargs == 0 else str(known[flag].nargs or "1")
        elif waiting == "1" or (waiting and not OVERRIDE.match(word)):
            flags.append(word)
            waiting = ""
        elif OVERRIDE.match(word):
            settings.append(word)
        else:
            raise SpecError(f"unexpected word {word!r}; a sweep takes one study, key=value words and Hydra's flags")
    return flags, settings


def _model_files(given: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Models given as files: name -> keys, inheritance done. In `given` the names take the place of the paths."""
    files: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    models = _text(given["model"]).split(",") if "model" in given else []
    for model in models:
        path = Path(model)
        if path.suffix in (".yaml", ".yml") or "/" in model:
            if path.stem in group_files("model"):
                raise SpecError(f"{model} has the name of a model that is there already; rename the file")
            files[path.stem] = {**read(path), "name": path.stem}
        names.append(path.stem if path.stem in files else model)
    check_names(zip(models, names, strict=True))
    if files:
        given["model"] = f"model={','.join(names)}"
    return files


def _add_search_path(given: dict[str, str], out: Path, files: Mapping[str, Any]) -> None:
    """The user's conf/ and the folder that the given models are put into, for Hydra to find."""
    folders = [user_dir()] if user_dir().is_dir() else []
    folders += [out.resolve() / "conf"] if files else []
    if folders and "hydra.searchpath" not in given:
        given["hydra.searchpath"] = f"hydra.searchpath={hydra_text([f'file://{f.resolve()}' for f in folders])}"


def _only_shows(flags: list[str]) -> bool:
    return any(f.split("=")[0] in SHOWING for f in flags)


def _settings(words: list[str]) -> dict[str, str]:
    """key -> word. Raises SpecError for a key of no group, one given twice, and Hydra's ~ (a model's keys stay)."""
    settings: dict[str, str] = {}
    for word in words:
        if word.startswith("~"):
            raise SpecError(f"{word} would delete a key; set it to null instead, or leave it as it is")
        key = word.partition("=")[0].lstrip("+~")
        group = key.split(".")[0].split("@")[0]
        if group not in (*GROUPS, *PLAIN) and not key.startswith("hydra"):
            known = (*GROUPS, *PLAIN, "hydra")
            raise SpecError(
                f"unknown key {key}{nearest(key, known)} (a key starts with its group: {', '.join(GROUPS)})"
            )
        if key in settings:
            raise SpecError(f"{key} is given twice")
        settings[key] = word
    return settings


def _text(word: str) -> str:
    return word.partition("=")[2].strip("'\"")


def _fold(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """(settings, axes): swept value keys become `grid`; a single model key need not stand in the file."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    axes: dict[str, Any] = {}
    kept: dict[str, str] = {}
    for key, word in given.items():
        try:
            parsed = parser.parse_override(word)
        except HydraException as problem:
            raise SpecError(f"{word!r} is not key=value as Hydra reads it: {_brief(problem)}") from None
        if key == "grid":
            values = _plain(parsed.value()) if isinstance(parsed.value(), dict) else {}
            axes = {k: axis_values(k, v) for k, v in values.items()} | axes
        elif "." in key and not key.startswith("hydra") and parsed.is_sweep_override():
            axes[key] = _axis(key, word, parsed)
        else:
            kept[key] = f"++{key}={word.partition('=')[2]}" if key.partition(".")[0] in GROUPS and "." in key else word
    for key in [k for k in kept if k in axes]:  # a single value given for an axis of the study
        axes.pop(key)
    return kept | {"grid": f"++grid={hydra_text(axes)}"}, axes


def _brief(problem: Exception) -> str:
    return str(problem).splitlines()[0].partition(" expecting ")[0]


def _axis(key: str, word: str, parsed: Any) -> list[Any]:
    """The values of a swept key. Raises SpecError for a key that cannot be an axis, or values that are not a list."""
    from hydra.errors import HydraException

    known = (*WORKLOAD_KEYS, *HARDWARE_KEYS)
    if not key.startswith("model.") and key not in known:
        raise SpecError(f"{key} cannot be an axis{nearest(key, known)}; model keys and {', '.join(WORKLOAD_KEYS)} can")
    try:
        return axis_values(key, [_plain(v) for v in parsed.sweep_iterator()])
    except HydraException:
        raise SpecError(f"{word!r} has no list of values; write them out, or as range(1,5)") from None


def _plain(value: Any) -> Any:
    """Hydra's parsed values as Python's: quoted strings lose their quotes."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return getattr(value, "text", value)


def _as_asked(study: Study, given: Mapping[str, str]) -> Study:
    """The study with what the command line changed of how a budget is held, for its stand-in on a CPU."""
    hold, multiple = _text(given["hold"]), _text(given["hold_multiple"])
    by = _text(given.get("hold_by", f"={study.hold_by}"))
    number = None if multiple == "null" else int(multiple)
    return replace(study, hold=None if hold == "null" else hold, hold_multiple=number, hold_by=by)


def _check_names(given: Mapping[str, str], files: Mapping[str, dict[str, Any]], axes: Mapping[str, Any]) -> None:
    """Raises for names and axes that Hydra would only find out about later, or not at all."""
    bases = []
    for group, what in GROUPS.items():
        found = group_files(group)
        for name in _text(given[group]).split(",") if group in given else ():
            if name not in found and not (group == "model" and name in files):
                raise UnknownNameError(f"unknown {what} {name!r}{nearest(name, found)} ({_listing(group)})")
            bases += [files.get(name) or read(name)] if group == "model" else []
    check_axes(axes, bases or [read(_composed()["model"])])


def _check_settings(given: Mapping[str, str]) -> None:
    """Raises SpecError for a setting that cannot be."""
    choices = {"hold": (*HELD, "null"), "hold_by": tuple(STEPS), "measure": MEASURE, "rows": ROWS}
    for key, allowed in (choices | dict.fromkeys(("limits", "per_character"), ("true", "false"))).items():
        if key in given and _text(given[key]) not in allowed:
            word = _text(given[key])
            raise SpecError(f"{key}={word!r} must be one of {', '.join(allowed)}{nearest(word, allowed)}")
    for key in ("hold_multiple", "parts"):
        number = _text(given.get(key, "=1"))
        if number != "null" and (not number.isdecimal() or int(number) < 1):
            raise SpecError(f"{key}={number!r} must be a whole number of 1 or more")
    if "out" in given and not _text(given["out"]):
        raise SpecError("out= needs the folder that the run goes to")
    _check_epsilon(_text(given.get("epsilon", "epsilon=null")))
    by = _text(given.get("hold_by", "hold_by=mlp.d_ff"))
    if f"model.{by}" in given and _text(given.get("hold", "hold=null")) != "null":
        short = by.rpartition(".")[2]
        raise SpecError(f"hold rescales model.{by}, so {short} cannot be given too; drop one of them")
    for key in given:
        group, _, name = key.partition(".")
        known = _fields(group, given) if name else None
        if known is not None and name.split(".")[0] not in known:
            raise SpecError(f"unknown key {key}{nearest(name, known)} (known: {', '.join(known)})")


def _check_epsilon(word: str) -> None:
    try:
        good = word == "null" or 0 < float(word) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise SpecError(f"epsilon={word!r} must be a number above 0, such as 0.01, or null")


def _fields(group: str, given: Mapping[str, str]) -> list[str] | None:
    """Keys that a group's file may have, those of the chosen engines; None for a model, checked elsewhere."""
    if group == "engine":
        chosen = _text(given.get("engine", "engine=ideal")).split(",")
        return list(dict.fromkeys(key for name in chosen if name in ENGINES for key in fields_of(ENGINES[name])))
    return [*fields_of(SCHEMAS[group])] if group in SCHEMAS else None


def _listing(group: str) -> str:
    command = {"model": "models", "hardware": "hardware"}.get(group)
    return f"archlab {command} lists them" if command else ", ".join(sorted(group_files(group)))


def spoken(words: list[str]) -> str:
    """The command as a person would type it again."""
    return shlex.join(["archlab", "sweep", *(w.removeprefix("study=") for w in words)])
