"""A study file: a question, bases, axes, workloads and devices. sweeps/*.yaml, or a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.config import group_file
from archlab.errors import SpecError, UnknownNameError, nearest
from archlab.hardware import load_hardware
from archlab.paths import data_dir
from archlab.presets import read
from archlab.schema import known_keys
from archlab.spec import FieldType, check_fields, choice, flag, names, size, text
from archlab.sweep.evaluate import WORKLOAD_KEYS, axis_values, bare_key
from archlab.sweep.hold import HELD

MEASURE = ("auto", "never")


def _is_grid(x: Any) -> bool:
    return isinstance(x, dict) and bool(x) and all(isinstance(v, list) and v for v in x.values())


def _grid(doc: str, default: Any) -> Any:
    kind = FieldType("a table of key: [values], none of them empty", lambda x: x == {} or _is_grid(x))
    return field(kw_only=True, default_factory=lambda: default, metadata={"type": kind, "doc": doc})


@dataclass(frozen=True)
class OnCPU:
    """What a CPU can time within a minute, in place of the study's own points."""

    base: list[str] = names("models to time")
    grid: Mapping[str, list[Any]] = _grid("axes to time", {})
    workloads: list[str] = names("workloads to time", ("short-512",))


def _is_section(x: Any) -> bool:
    return isinstance(x, dict)


@dataclass(frozen=True)
class Study:
    """A study as data."""

    question: str = text("what the study asks, as a question")
    base: list[str] = names("models that it starts from")
    grid: Mapping[str, list[Any]] = _grid("key: values; the points are all combinations", {})
    workloads: list[str] = names("files of conf/workload")
    hardware: list[str] = names("files of conf/hardware")
    precision: list[str] = names("files of conf/precision", ("bf16",))
    engine: list[str] = names("files of conf/engine: whose cache and whose memory", ("ideal",))
    limits: bool = flag("the longest context and the largest batch that fit each device too", False)
    hold: str | None = field(
        kw_only=True,
        default=None,
        metadata={
            "type": FieldType("params, flops or null", lambda x: x in HELD, none=True),
            "doc": "what d_ff is rescaled to hold",
        },
    )
    hold_multiple: int = size("d_ff is rounded to a multiple of this", 64)
    measure: str = choice("auto: time what this machine can; never", MEASURE, "auto")
    on_cpu: Mapping[str, Any] | None = field(
        kw_only=True,
        default=None,
        metadata={
            "type": FieldType("a section", _is_section, none=True),
            "doc": "what a CPU times: base, grid, workloads",
        },
    )


def studies() -> list[str]:
    """Names of the shipped studies."""
    return sorted(p.stem for p in data_dir("sweeps").glob("*.yaml"))


def load_study(name: str | Path) -> tuple[str, Study]:
    """(name, study) by name or from a file. Raises ArchlabError: every name and key in it is checked."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = data_dir("sweeps") / f"{name}.yaml"
        if not path.is_file():
            raise UnknownNameError(
                f"unknown study {str(name)!r}{nearest(str(name), studies())} (known: {', '.join(studies())})"
            )
    data = yamlfile.read(path)
    try:
        return path.stem, study_from(data)
    except SpecError as problem:
        raise SpecError(f"{path.name}: {problem}") from None


def study_from(data: Mapping[str, Any]) -> Study:
    """A study from its keys, each name and each axis checked. Raises ArchlabError."""
    check_fields(Study, "", data)
    grid = {key: axis_values(key, values) for key, values in data.get("grid", {}).items()}
    study = Study(**{**data, "grid": grid})
    if study.on_cpu is not None:
        check_fields(OnCPU, "on_cpu", study.on_cpu)
    check_names(study)
    return study


def check_names(study: Study) -> None:
    """Raises ArchlabError for an unknown workload, device, precision, engine, model or axis."""
    for workload in study.workloads:
        group_file("workload", "workload", workload)
    for precision in study.precision:
        group_file("precision", "precision", precision)
    for engine in study.engine:
        group_file("engine", "engine", engine)
    for device in study.hardware:
        load_hardware(device)
    check_axes(study.grid, [read(base) for base in study.base])


def check_axes(grid: Mapping[str, Any], bases: list[dict[str, Any]]) -> None:
    """Raises SpecError for a grid key that no base has (where one has it, the others become refused rows)."""
    known = {k: None for data in bases for k in (*known_keys(data), *WORKLOAD_KEYS)}
    for key in grid if bases else ():
        if bare_key(key) not in known:
            raise SpecError(f"unknown key {key}{nearest(bare_key(key), known)}")


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
        f"hold_multiple={study.hold_multiple}",
        f"limits={hydra_text(study.limits)}",
    ]


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
