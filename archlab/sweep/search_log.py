"""The log of a search: Optuna's journal in a folder, which a process may leave at any moment and another take up.

A trial is drawn (Optuna's `ask`) with a generator that is seeded by its place among the trials, so what it draws
depends on the trials before it only: a search that was killed and taken up again tries the same points as one that
was not. Trials that were drawn and not finished are finished; one that was killed while it was drawn is marked failed,
does not count and is drawn again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from archlab.errors import SpecError
from archlab.sweep.pareto import Objective
from archlab.sweep.search_rules import Verdict
from archlab.sweep.search_space import Choices, Dimension, Values

BATCH = {"nsga2": 50, "tpe": 10}
"""Trials that are drawn before any of them is evaluated: of NSGA-II a population."""

DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
CONSTRAINT = "violation"


@dataclass(frozen=True)
class Drawn:
    """A trial that waits for its verdict."""

    trial: Trial
    values: Values


class Log:
    """One search in one folder: `with Log(...) as log`. Raises SpecError where it holds another, or is in use."""

    def __init__(
        self,
        folder: Path,
        name: str,
        dims: Sequence[Dimension],
        objectives: Sequence[Objective],
        sampler: str,
        seed: int,
    ) -> None:
        self.path, self.name, self.sampler, self.seed = folder / "search.log", name, sampler, seed
        self.dims = {dim.key: dim for dim in dims}
        self.distributions = {dim.key: _distribution(dim) for dim in dims}
        self.directions = [DIRECTIONS[o.sense] for o in objectives]

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = _only_one(self.path.with_suffix(".lock"))
        try:
            self._open()
        except BaseException:
            os.close(self.lock)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        os.close(self.lock)

    def _open(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _drop_torn_line(self.path)
        self.journal = _Journal(self.path)
        try:
            storage = JournalStorage(self.journal)
            others = set(optuna.get_all_study_names(storage)) - {self.name}
            if others:
                raise SpecError(
                    f"{self.path.parent} holds {min(others)}, a search of another study, space, setting or code; "
                    "give --out another folder"
                )
            self.study = optuna.create_study(
                study_name=self.name, storage=storage, directions=self.directions, load_if_exists=True
            )
        except (ValueError, KeyError, TypeError):
            raise SpecError(f"{self.path} is not the log of a search; give --out another folder") from None
        for trial in self._trials(TrialState.RUNNING):
            if set(trial.params) != set(self.dims):
                self.study.tell(trial.number, state=TrialState.FAIL)

    def finished(self) -> list[Values]:
        """The points of the finished trials, in the order in which they were drawn."""
        return [self._values(t.params) for t in self._trials(TrialState.COMPLETE)]

    def start_at(self, values: Values) -> None:
        """Makes the first trial of an empty log the point that the base has."""
        if not self._trials(TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING):
            self.study.enqueue_trial(self._labels(values))

    def draw(self, most: int) -> list[Drawn]:
        """The trials that come next, at most so many: those of a batch that a killed process left, then new ones."""
        done, left = len(self._trials(TrialState.COMPLETE)), self._trials(TrialState.RUNNING)
        self.study.sampler = optuna.samplers.RandomSampler()  # their points are drawn already
        drawn = [Trial(self.study, t._trial_id) for t in left[:most]]
        size = BATCH[self.sampler]
        end = min((done // size + 1) * size, done + most)
        for place in range(done + len(left), end):
            self.study.sampler = self._sampler(place)
            drawn.append(self.study.ask(self.distributions))
        return [Drawn(trial, self._values(trial.params)) for trial in drawn]

    def tell(self, drawn: Sequence[Drawn], verdicts: Sequence[Verdict]) -> None:
        """Finishes trials."""
        for one, verdict in zip(drawn, verdicts, strict=True):
            if not one.trial.constraints:
                one.trial.set_constraint(CONSTRAINT, verdict.violation)
            if verdict.reason is not None:
                one.trial.set_user_attr("reason", verdict.reason)
            self.study.tell(one.trial, verdict.values)
        self.journal.settle()

    def add(self, points: Sequence[Values], verdicts: Sequence[Verdict]) -> None:
        """Finished trials of points that nobody drew."""
        for values, verdict in zip(points, verdicts, strict=True):
            trial = optuna.trial.create_trial(
                params=self._labels(values),
                distributions=self.distributions,
                values=verdict.values,
                user_attrs={} if verdict.reason is None else {"reason": verdict.reason},
                constraints={CONSTRAINT: verdict.violation},
            )
            self.study.add_trial(trial)
        self.journal.settle()

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _values(self, labels: dict[str, Any]) -> Values:
        return {key: dim.value(labels[key]) for key, dim in self.dims.items()}

    def _labels(self, values: Values) -> dict[str, Any]:
        return {key: dim.label(values[key]) for key, dim in self.dims.items()}

    def _sampler(self, place: int) -> optuna.samplers.BaseSampler:
        """The sampler of a trial, seeded by its place among the trials."""
        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        space = {name: found for name, found in self.distributions.items() if not found.single()}
        if self.sampler == "nsga2":
            return _NSGAII(space, population_size=BATCH["nsga2"], seed=seed)
        return _TPE(space, seed=seed)


class _NSGAII(optuna.samplers.NSGAIISampler):
    """Optuna's, told what all trials have in common, which it would find out from all of them at each."""

    def __init__(self, space: dict[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self.space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space


class _TPE(optuna.samplers.TPESampler):
    """Optuna's, told the same."""

    def __init__(self, space: dict[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self.space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space


def _distribution(dim: Dimension) -> BaseDistribution:
    if isinstance(dim, Choices):
        return CategoricalDistribution(dim.labels)
    if dim.whole:
        return IntDistribution(int(dim.low), int(dim.high), log=dim.log, step=1 if dim.log else int(dim.step or 1))
    return FloatDistribution(dim.low, dim.high, log=dim.log, step=dim.step)


class _Journal(JournalFileBackend):
    """Optuna's journal, without its lock and without waiting for the disk at each line.

    The folder is held instead, by a lock that ends with its process, where Optuna's would outlive it. Lines are with
    the system at once, so a process may be killed; they are on the disk after each batch.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends a line each, in one write."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.path.open("ab") as journal:
            journal.write(lines.encode())

    def settle(self) -> None:
        """Waits for the disk."""
        with self.path.open("ab") as journal:
            os.fsync(journal.fileno())


def _only_one(path: Path) -> int:
    """The descriptor of a file that one process at a time can hold. Raises SpecError where another has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no such lock: there nobody stops a second search
        pass
    except OSError:
        os.close(handle)
        raise SpecError(f"{path.parent} is in use by another search; wait, or give --out another folder") from None
    return handle


def _drop_torn_line(path: Path) -> None:
    """Cuts off what a process that was killed wrote of a line."""
    if not path.exists():
        return
    with path.open("rb+") as log:
        whole = log.read().rfind(b"\n") + 1
        log.truncate(whole)
