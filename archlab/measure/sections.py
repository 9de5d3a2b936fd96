"""The suite's sections about time: whether the modules compute right, what the device gives, operations, whole passes,
and the calibration that these add up to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from archlab.measure.checks import Check, checks_for
from archlab.measure.progress import Suite
from archlab.measure.provenance import config_hash, provenance
from archlab.measure.records import Record, last_rates, read_records
from archlab.measure.session import Session, Task
from archlab.measure.studies import Study
from archlab.measure.turns import measure_tasks
from archlab.units import show_seconds

TRIAL_S = {"cpu": 1.0, "cuda": 0.8}
"""Seconds of sampling a trial."""
QUICKER = 0.1
LEADING = ("gemma2", "gemma3")
"""Families of the models that are timed: their checks come first."""
OPERATION_S = 0.15
"""Seconds of sampling an operation."""
OPERATIONS_SHARE = 0.3
"""Of the time that is left, for single operations."""


def checks(suite: Suite, leading: bool) -> None:
    """Those of the families that are timed, or the others, which a quick run leaves out."""
    if suite.quick and not leading:
        return
    if suite.device.type == "cpu" and leading:
        suite.say("checks: this device is the CPU, so it is not compared with a CPU")
    found = {_check_key(suite, c): c for c in checks_for(suite.device, suite.dtype) if _leads(c) == leading}
    for key in suite.wanted("checks", [*found]):
        if not suite.late(key):
            suite.attempt("checks", key, partial(found[key].run, suite.device))


def _leads(check: Check) -> bool:
    return check.spec.family in LEADING


def _check_key(suite: Suite, check: Check) -> str:
    return suite.key(check.name, check.spec.name, config_hash(check.spec)[:16], check.dtype)


def rooflines(suite: Suite) -> None:
    """The device's rates, for themselves; what is timed measures them anew."""
    for key in suite.wanted("rooflines", [suite.rates_key]):
        if not suite.late(key):
            suite.rates()


def operations(suite: Suite, studies: Sequence[Study]) -> None:
    """Single operations: a grid for the laws of a device, and the exact shapes of the first study's models."""
    from archlab.measure.operations import key_of, measure_operations, name_of  # late: the rest does without
    from archlab.measure.shapes import operations_for, operations_of

    first = [task for study in studies[:1] for task in tasks_of(study)]
    exact = [op for task in first for op in operations_of(task.spec, [task.work], suite.dtype)]
    all_of_them = dict.fromkeys([*operations_for(suite.device.type, suite.quick), *exact])
    found = {key_of(op, suite.device, suite.dtype): op for op in all_of_them}
    pending = [key for key in suite.wanted("operations", [*found]) if not suite.late(key)]
    if not pending:
        return
    left_out = measure_operations(
        suite.file("operations"), [found[key] for key in pending], suite.device, suite.dtype,
        seconds=OPERATION_S * (QUICKER if suite.quick else 1), budget_seconds=OPERATIONS_SHARE * suite.left_s,
        say=lambda line: suite.say(f"operations: {line}"),
    )  # fmt: skip
    landed = {r.get("key"): r for r in read_records(suite.file("operations"))}
    for key in pending:
        if key in landed:
            suite.note("operations", key, landed[key], "written")
        else:
            suite.skip(key, left_out.get(name_of(found[key]), "it was not timed"))


def passes(suite: Suite, studies: Sequence[Study], sections: Sequence[str]) -> None:
    """The studies in their order: whole models (latency), and models composed from some of their layers (sampled)."""
    pending = _pending(suite, [study for study in studies if study.section in sections])
    for study, tasks in pending:
        left = [task for task in tasks if not suite.late(suite.task_key(task))]
        if not left:
            continue
        seconds = TRIAL_S[suite.device.type] * (QUICKER if suite.quick else 1)
        session = Session(
            suite.device, suite.dtype, suite.rates(), suite.seed, seconds, suite.deadline, recheck=not suite.quick,
            sampled=study.sampled, cache_bytes=0 if suite.quick else None,
        )  # fmt: skip
        for task, record in measure_tasks(left, session):
            _keep(suite, study.section, task, record)


def _pending(suite: Suite, studies: Sequence[Study]) -> list[tuple[Study, list[Task]]]:
    """What of each study is still to be measured; a task that two studies share is the first one's."""
    wanted = {}
    for section in dict.fromkeys(study.section for study in studies):
        keys = [suite.task_key(task) for study in studies if study.section == section for task in tasks_of(study)]
        wanted[section] = set(suite.wanted(section, keys))
    found = []
    for study in studies:
        tasks = {suite.task_key(task): task for task in tasks_of(study)}
        mine = [task for key, task in tasks.items() if key in wanted[study.section]]
        wanted[study.section] -= set(tasks)
        found.append((study, mine))
    return found


def _keep(suite: Suite, section: str, task: Task, record: Record) -> None:
    key = suite.task_key(task)
    if record.status == "skipped":
        suite.skip(key, record.reason)
        return
    news = f"{show_seconds(record.median_s or 0)}, bound {show_seconds(record.bound_s or 0)}"
    if record.residual is not None:
        news += f", {record.source}, residual {record.residual:+.1%} on {record.verified_on}"
    told = {"point": task.label, "workload": task.workload, "config": task.spec.data}
    suite.keep(section, key, {**told, **record.as_dict()}, news)


def tasks_of(study: Study) -> Iterator[Task]:
    """Each phase of each point."""
    for label, spec in study.points():
        for name, work in study.workloads():
            yield Task(label, spec, name, work)


def base_of(study: Study) -> list[Task]:
    """The tasks of its first point."""
    tasks = [*tasks_of(study)]
    return [task for task in tasks if task.label == tasks[0].label]


def calibration(suite: Suite) -> None:
    """The device's laws from the operations and the passes of this folder: a record, and a device file beside it."""
    from archlab.measure.calibration import calibrate  # late: what only measures does without the fit
    from archlab.measure.device_file import write_device

    def fit() -> dict[str, Any]:
        fitted = calibrate(suite.out, suite.dtype, "fast", run=suite.out.name)
        path = suite.out / "device.yaml"
        path.unlink(missing_ok=True)
        write_device(path, last_rates(suite.out, suite.dtype), fitted)
        error = fitted.calibration.error
        return {
            "dtype": fitted.dtype, "error_median": error.median, "error_p90": error.p90,
            "n_configurations": error.n_configurations, "kernel_errors": dict(fitted.kernel_errors),
            "passed_over": dict(fitted.passed_over), "file": path.name, "status": "ok", "reason": "",
            "provenance": provenance(suite.device),
        }  # fmt: skip

    key = suite.key("calibration")
    if suite.outcome.measured or suite.wanted("calibration", [key]):
        suite.attempt("calibration", key, fit)
