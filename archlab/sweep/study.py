"""A study file: a question, bases, axes, workloads and devices. sweeps/*.yaml, or a file of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.config import group_file
from archlab.errors import SpecError, UnknownNameError, closest, nearest
from archlab.evidence import evidence
from archlab.fields import check_fields, choice, fields_of, flag, names, real, size, text
from archlab.hardware import Hardware, load_hardware
from archlab.paths import data_dir
from archlab.presets import read
from archlab.schema import field_type, known_keys
from archlab.sweep.axes import HARDWARE_KEYS, OTHER_KEYS, PLACE_KEYS, axis_values, bare_key
from archlab.sweep.hold import HELD, STEPS
from archlab.sweep.pareto import DEFAULT, LIMIT, Objective, parse_objective
from archlab.sweep.study_fields import (
    MEASURE,
    RATE,
    ROWS,
    SPACE_KEYS,
    OnCPU,
    Search,
    chosen,
    grid,
    range_from,
    search_from,
    section,
    texts,
    word,
)  # fmt: skip
from archlab.sweep.where import matched, parse_where


@dataclass(frozen=True)
class Study:
    """A study as data."""

    question: str = text("what the study asks, as a question")
    base: list[str] = names("models that it starts from")
    grid: Mapping[str, list[Any]] = grid("key: values; the points are all combinations")
    workloads: list[str] = names("files of conf/workload")
    hardware: list[str] = names("files of conf/hardware")
    precision: list[str] = names("files of conf/precision", ("bf16",))
    engine: list[str] = names("files of conf/engine: whose cache and whose memory", ("ideal",))
    limits: bool = flag("the longest context and the largest batch that fit each device too", False)
    hold: str | None = chosen("what of the base each point keeps", HELD)
    hold_by: str = choice("the key that is rescaled to hold it", tuple(STEPS), "mlp.d_ff")
    hold_multiple: int | None = size("hold_by is rounded to a multiple of this; null: as suits it", None, none=True)
    hold_workload: str | None = word("the workload at which it is held; null: the first", "a file of conf/workload")
    where: Sequence[str] = texts("what a point must satisfy: 'memory_bytes <= 24 GiB'", "conditions")
    objectives: Sequence[str] = texts("what is to be small or large: 'min decode_bound_s'", "objectives")
    epsilon: float | None = real("the front is thinned to points a factor of 1 + epsilon apart", None, none=True)
    axis: str | None = word("which evidence of quality it asks about; null: the one of the file's name")
    quality: str | None = word("a table of measured losses, by its path")
    per_character: bool = flag("costs per character of text too, where the vocabulary differs", False)
    rows: str = choice("which points of a large sweep are stored: all, or those of note", ROWS, "auto")
    search: Mapping[str, Any] | None = section("how archlab search goes: space, trials, sampler, seed")
    measure: str = choice("auto: time what this machine can; never", MEASURE, "auto")
    on_cpu: Mapping[str, Any] | None = section("what a CPU times: base, grid, workloads")

    @property
    def multiple(self) -> int:
        """What hold_by is rounded to a multiple of."""
        return STEPS[self.hold_by] if self.hold_multiple is None else self.hold_multiple


def studies() -> list[str]:
    """Names of the shipped studies."""
    return sorted(p.stem for p in data_dir("sweeps").glob("*.yaml"))


def load_study(name: str | Path) -> tuple[str, Study]:
    """(name, study) by name or from a file. Raises ArchlabError: every name and key in it is checked."""
    path, data = read_study(name)
    try:
        return path.stem, study_from(data)
    except SpecError as problem:
        raise SpecError(f"{path.name}: {problem}") from None


def read_study(name: str | Path) -> tuple[Path, dict[str, Any]]:
    """(file, keys) of a study by name or by path, not checked. Raises ArchlabError."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = data_dir("sweeps") / f"{name}.yaml"
        if not path.is_file():
            raise UnknownNameError(
                f"unknown study {str(name)!r}{nearest(str(name), studies())} (known: {', '.join(studies())})"
            )
    return path, yamlfile.read(path)


def study_from(data: Mapping[str, Any]) -> Study:
    """A study from its keys, each name and each axis checked. Raises ArchlabError."""
    check_fields(Study, "", data)
    grid = {key: axis_values(key, values) for key, values in data.get("grid", {}).items()}
    study = Study(**{**data, "grid": grid})
    if study.on_cpu is not None:
        check_fields(OnCPU, "on_cpu", study.on_cpu)
    check_names(study)
    check_texts(study)
    return study


def check_names(study: Study) -> None:
    """Raises ArchlabError for an unknown workload, device, precision, engine, model or axis."""
    workloads = [*study.workloads, *filter(None, [study.hold_workload])]
    _check_groups(workload=workloads, precision=study.precision, engine=study.engine, hardware=study.hardware)
    bases = [read(base) for base in study.base]
    check_axes(study.grid, bases)
    check_space(search_from(study.search), bases)


def _check_groups(**groups: Iterable[str]) -> None:
    for group, found in groups.items():
        for name in found:
            load_hardware(name) if group == "hardware" else group_file(group, group, name)


def check_axes(grid: Mapping[str, Any], bases: list[dict[str, Any]], more: Sequence[str] = ()) -> None:
    """Raises ArchlabError for a grid key that no base has (where one has it, the others become refused rows).

    Names of devices, precisions and engines are checked too, and a device's numbers. `more`: keys allowed besides.
    """
    known = {k: None for data in bases for k in (*known_keys(data), *OTHER_KEYS, *more)}
    for key, values in grid.items() if bases else ():
        if bare_key(key) not in known:
            raise unknown_key(key, known)
        if key in PLACE_KEYS and isinstance(values, list):
            _check_groups(**{key: map(str, values)})
        for value in axis_values(key, values) if key in HARDWARE_KEYS and isinstance(values, list) else ():
            value_type(key, bases).check(key, value)


def unknown_key(key: str, known: Iterable[str]) -> SpecError:
    """The sentence for a key that no base has; the nearest one is spelled as the key was, with `model.` or without."""
    found = closest(bare_key(key), known)
    if found and key.startswith("model.") and found not in OTHER_KEYS:
        found = f"model.{found}"
    return SpecError(f"unknown key {key}" + (f"; did you mean {found!r}?" if found else ""))


def check_space(search: Search, bases: list[dict[str, Any]]) -> None:
    """Raises ArchlabError for a key, a name or a range of the space that cannot be."""
    check_axes(search.space or {}, bases, more=SPACE_KEYS)
    for key, given in (search.space or {}).items():
        if isinstance(given, list):
            axis_values(key, given)
            for name in given if key == "base" else ():
                read(name)
            _check_groups(workload=map(str, given) if key == "workload" else ())
        elif key in SPACE_KEYS:
            raise SpecError(f"{key} has names, not numbers; write them as a list")
        else:
            range_from(key, given, value_type(bare_key(key), bases))


def value_type(key: str, bases: list[dict[str, Any]]) -> Any:
    """The FieldType of an axis's values, of the first base that has the key; None for a workload's."""
    if key in HARDWARE_KEYS:
        device, (name, *inner) = fields_of(Hardware), key.split(".")[1:]
        return RATE if inner else device[name].metadata["type"]
    return next((field_type(data, key) for data in bases if key in known_keys(data)), None)


def check_texts(study: Study) -> None:
    """Raises ArchlabError for a condition, an objective or an evidence axis that cannot be, whatever columns come."""
    if study.where:
        parse_where(study.where)
    if study.axis is not None:
        evidence(study.axis)
    asked = [parse_objective(words).name for words in study.objectives]
    if twice := [name for name in asked if asked.count(name) > 1]:
        raise SpecError(f"objectives name {twice[0]} twice")


def check_columns(study: Study, known: Iterable[str]) -> None:
    """Raises SpecError for a condition or an objective on a column that is not among the known."""
    known = list(known)
    if study.where:
        parse_where(study.where, known)
    for objective in objectives_of(study) if study.objectives else ():
        matched(objective.name, known)


def objectives_of(study: Study) -> tuple[Objective, ...]:
    """What the study makes small or large.

    If it does not say: the memory, and the bounds of both phases, whose columns every device with a rate has; where
    limits are asked, the longest context too.
    """
    return tuple(parse_objective(words) for words in study.objectives or (*DEFAULT, *[LIMIT] * study.limits))


def axis_of(name: str, study: Study) -> str:
    """The evidence axis that a study asks about: its own word, else the name of its file."""
    return study.axis or name


def cpu_study(study: Study) -> Study | None:
    """The study's stand-in that a CPU can time, or None where it names none."""
    if study.on_cpu is None:
        return None
    stand_in = OnCPU(**study.on_cpu)
    return replace(study, base=stand_in.base, grid=dict(stand_in.grid), workloads=stand_in.workloads)


def overrides(study: Study) -> list[str]:
    """The study as Hydra overrides: groups are Hydra's dimensions, value axes the grid of each job."""
    return [
        f"model={','.join(study.base)}",
        f"workload={','.join(study.workloads)}",
        f"hardware={','.join(study.hardware)}",
        f"precision={','.join(study.precision)}",
        f"engine={','.join(study.engine)}",
        f"++grid={hydra_text(study.grid)}",
        f"hold={study.hold or 'null'}",
        f"hold_multiple={hydra_text(study.hold_multiple)}",
        f"limits={hydra_text(study.limits)}",
        *(f"{name}={hydra_text(value)}" for name, value in _beyond_defaults(study).items()),
    ]


FURTHER = (
    "hold_by", "hold_workload", "where", "objectives", "epsilon", "axis", "quality", "per_character", "rows",
)  # fmt: skip
"""Settings that are handed to Hydra only where a study has its own."""


def _beyond_defaults(study: Study) -> dict[str, Any]:
    default = {f.name: f.default for f in fields(study)}
    own = {name: getattr(study, name) for name in FURTHER}
    return {k: v for k, v in own.items() if (tuple(v) if isinstance(v, list) else v) != default[k]}


def hydra_text(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_text(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(hydra_text(v) for v in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
