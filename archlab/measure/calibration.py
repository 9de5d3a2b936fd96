"""From a folder of measurements to a calibration: which records count, and what is said of those that do not.

    fitted = calibrate("reports/h200")                        # operations.jsonl and latency.jsonl
    write_calibration("conf/hardware/h200-sxm.yaml", fitted)  # device_file

The error that a calibration states is of steps whose configuration was left out of its fit to steps, each once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from archlab.analyzers.kernels import kernels
from archlab.assemble import resolve
from archlab.calibration import CALIBRATED, Calibration, Composed, Error, Laws
from archlab.errors import ArchlabError
from archlab.formats import FORMATS
from archlab.ledger import ledger
from archlab.measure.laws import Step, exact, fit_kernels, fit_steps, kernel_errors, left_out, rounded
from archlab.measure.provenance import config_hash
from archlab.measure.records import read_records, torn_lines
from archlab.measure.shapes import operation_from
from archlab.measure.studies import CPU, GPU, QUICK
from archlab.precision import load_precision
from archlab.presets import load, models
from archlab.spec import ModelSpec
from archlab.workload import Workload

LEAST_CONFIGURATIONS = 3
"""Below so many, what is left out is not predicted from others."""

Lines = Mapping[str, Any]


@dataclass(frozen=True)
class LeftOut:
    """A step beside what fits that never saw its configuration make of it; composed where its shapes are known."""

    model: str
    config_hash: str
    phase: str
    batch: int
    context: int
    measured_s: float
    predicted_s: float
    composed_s: float | None


@dataclass(frozen=True)
class Fitted:
    """A calibration of one format, and what it was made of.

    kernel_errors   kind of kernel -> mean relative error of its law on the operations that it was fitted to
    passed_over     why lines were not used -> how many
    """

    dtype: str
    calibration: Calibration
    left_out: tuple[LeftOut, ...]
    kernel_errors: Mapping[str, float]
    passed_over: Mapping[str, int]


def calibrate(
    folder: Path | str,
    dtype: str | None = None,
    backend: str | None = None,
    run: str | None = None,
    specs: Iterable[ModelSpec] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Fits the laws of the device and format that a folder's operations.jsonl and latency.jsonl are of.

    dtype, backend  which, where there are several
    run             how the folder is called in the block; its path as given unless told, of an absolute one the name
    specs           models besides the presets and the suite's studies that steps may be of, known by their hash where
                    the record does not hold its `config`
    Raises ArchlabError: one sentence that says what is missing.
    """
    folder, passed_over = Path(folder), Counter[str]()
    timed = _records(folder / "operations.jsonl", _is_operation, passed_over)
    steps = _records(folder / "latency.jsonl", _is_step, passed_over)
    dtype = _one("number formats", dtype, [r["dtype"] for r in timed], folder / "operations.jsonl")
    device = _one("devices", None, [r["device"] for r in timed if r["dtype"] == dtype], folder / "operations.jsonl")
    timed = _of(timed, passed_over, dtype=dtype, device=device)
    steps = _of(steps, passed_over, dtype=dtype, device=device)
    backend = _one("backends", backend, [r["backend"] for r in steps], folder / "latency.jsonl")
    steps = _of(steps, passed_over, backend=backend)
    bare = any("config" not in r for r in steps)
    known = {config_hash(spec): spec for spec in (*(_suite_specs() if bare else ()), *specs)}
    whole = _whole(steps, dtype, known, passed_over)
    called = run or (folder.name if folder.is_absolute() else folder.as_posix())
    fitted = fit(timed, whole, called, backend, passed_over)
    for why, n in passed_over.items():
        say(f"passed over {n} {'line' if n == 1 else 'lines'}: {why}")
    return fitted


def fit(
    timed: Sequence[Lines], steps: Sequence[Step], run: str, backend: str, passed_over: Mapping[str, int]
) -> Fitted:
    """The calibration of operations and steps of one device, format and backend. Raises ArchlabError for too few."""
    last, dtype = timed[-1], timed[-1]["dtype"]
    itemsize, origin = FORMATS[dtype].bits // 8, dict(last.get("provenance") or {})
    shapes = {r["shape"]: (operation_from(r["operation"]).kernel(itemsize), r["median_s"]) for r in timed}
    runs = [*shapes.values()]
    known = {kernel.key: rounded(seconds) for kernel, seconds in runs if kernel.key is not None}
    alone = fit_kernels(runs)
    laws, exactly = fit_steps(alone, steps, {}), exact(steps, known)
    beside = dict(zip(map(id, exactly), left_out(alone, exactly, known), strict=True)) if _enough(exactly) else {}
    errors = tuple(
        LeftOut(s.model, s.config_hash, s.phase, s.batch, s.context, s.seconds, predicted, beside.get(id(s)))
        for s, predicted in zip(steps, left_out(alone, steps, {}), strict=True)
    )
    calibration = Calibration(
        **{f.name: getattr(laws, f.name) for f in fields(Laws)},
        run=run,
        backend=backend,
        date=max(str((r.get("provenance") or {}).get("utc", "unknown")) for r in timed)[:10],
        device=last["device"],
        torch=str(origin.get("torch", "unknown")),
        code_version=str(origin.get("code_version", "unknown")),
        threads=None if "gpu" in origin else origin.get("threads"),
        multiprocessors=origin.get("gpu_multiprocessors"),
        contexts=[min(s.context for s in steps), max(s.context for s in steps)],
        batches=[min(s.batch for s in steps), max(s.batch for s in steps)],
        error=_error([(e, e.predicted_s) for e in errors]),
        composed=_composed(fit_steps(alone, exactly, known), errors) if beside else None,
        operations=known,
    )
    return Fitted(dtype, calibration, errors, kernel_errors(laws, runs), passed_over)


def _enough(steps: Iterable[Step]) -> bool:
    """Whether one configuration can be left out and predicted from others."""
    return len({step.config_hash for step in steps}) >= LEAST_CONFIGURATIONS


def _composed(laws: Laws, errors: Iterable[LeftOut]) -> Composed:
    error = _error([(e, e.composed_s) for e in errors if e.composed_s is not None])
    return Composed(vector=laws.vector, step=laws.step, error=error)


def _error(pairs: Sequence[tuple[LeftOut, float]]) -> Error:
    """Of (step, what it was predicted to take)."""
    errors = [abs(seconds / step.measured_s - 1) for step, seconds in pairs]
    median, p90 = np.percentile(errors, (50, 90))
    configurations = {step.config_hash for step, _ in pairs}
    return Error(median=rounded(median), p90=rounded(p90), n_configurations=len(configurations))


def _suite_specs() -> Iterable[ModelSpec]:
    """The presets, and the points of the suite's studies."""
    return (*map(load, models()), *(spec for study in (*CPU, *GPU, *QUICK) for _, spec in study.points()))


# ---------------------------------------------------------------- which lines count


def _records(path: Path, wrong: Callable[[Lines], str], passed_over: Counter[str]) -> list[dict[str, Any]]:
    """A file's good records, of one key the last. Raises ArchlabError where there is no such file."""
    if not path.is_file():
        writer = {"operations": "measure_operations", "latency": "the suite"}[path.stem]
        raise ArchlabError(f"{path.parent} has no {path.name}, which {writer} writes: a calibration needs both files")
    passed_over[f"torn, in {path.name}"] += torn_lines(path)
    kept: dict[Any, dict[str, Any]] = {}
    for place, record in enumerate(read_records(path)):
        why = wrong(record)
        if why:
            passed_over[why] += 1
        else:
            kept[record.get("key", place)] = record
    passed_over += Counter()  # drops what was met no times
    return [*kept.values()]


def _is_operation(record: Lines) -> str:
    """Why it is not one that was timed; '' if it is."""
    if record.get("status") == "failed":
        return "operations that failed"
    try:
        operation_from(record["operation"])
        good = all(isinstance(record[name], str) for name in ("dtype", "device", "shape"))
        good = good and record["dtype"] in CALIBRATED and record["median_s"] > 0
    except (KeyError, TypeError, ValueError):
        good = False
    return "" if good else "no operations, in operations.jsonl"


def _is_step(record: Lines) -> str:
    """Why it is not a whole step that was timed; '' if it is."""
    if record.get("status") in ("failed", "skipped"):
        return f"steps that {'failed' if record['status'] == 'failed' else 'were skipped'}"
    if record.get("source", "measured") != "measured":
        return "steps that were extrapolated, not measured"
    words, counts = ("dtype", "device", "backend", "config_hash", "phase", "logits"), ("batch", "new", "context")
    try:
        good = all(isinstance(record[name], str) for name in words) and all(type(record[n]) is int for n in counts)
        good = good and record["median_s"] > 0
    except (KeyError, TypeError):
        good = False
    return "" if good else "no steps, in latency.jsonl"


def _one(what: str, wanted: str | None, found: Iterable[str], path: Path) -> str:
    """The one that there is, or the one that is wanted. Raises ArchlabError."""
    there = sorted(set(found))
    if wanted is None and len(there) > 1:
        raise ArchlabError(f"{path} is of several {what}, {', '.join(there)}, and a calibration is of one")
    if not there or (wanted is not None and wanted not in there):
        only = f", only of {', '.join(there)}" if there else ""
        raise ArchlabError(f"{path} holds no measurement{f' of {wanted}' if wanted is not None else ''}{only}")
    return there[0] if wanted is None else wanted


def _of(records: Sequence[dict[str, Any]], passed_over: Counter[str], **wanted: str) -> list[dict[str, Any]]:
    """The records that have all of these."""
    kept = [r for r in records if all(r.get(name) == value for name, value in wanted.items())]
    if len(kept) < len(records):
        passed_over[f"of another {' or '.join(wanted)}"] += len(records) - len(kept)
    return kept


def _whole(
    records: Sequence[Lines], dtype: str, specs: Mapping[str, ModelSpec], passed_over: Counter[str]
) -> list[Step]:
    """The steps whose model is known. Raises ArchlabError for fewer configurations than can be left out."""
    found: dict[tuple, Step] = {}
    for r in records:
        spec = _spec(r, specs)
        if spec is None:
            passed_over["steps of a model that is neither written beside them nor known by its hash"] += 1
            continue
        work = Workload(r["batch"], r["new"], r["context"], logits=r["logits"])
        runs = tuple(kernels(ledger(spec, work), load_precision(dtype)))
        where = (spec.name, r["config_hash"], r["phase"], r["batch"], r["context"])
        found[*where, r["logits"]] = Step(*where, r["median_s"], runs)
    if not _enough(found.values()):
        n = len({step.config_hash for step in found.values()})
        raise ArchlabError(
            f"steps of {n} configurations were measured, and at least {LEAST_CONFIGURATIONS} are needed to leave one "
            "out and predict it from the others"
        )
    return [*found.values()]


def _spec(record: Lines, specs: Mapping[str, ModelSpec]) -> ModelSpec | None:
    """The model of a step: that of the keys which the record holds, else that of its hash."""
    if not isinstance(record.get("config"), Mapping):
        return specs.get(record["config_hash"])
    try:
        spec = resolve(dict(record["config"]))
    except ArchlabError:
        return None
    return spec if config_hash(spec) == record["config_hash"] else None
