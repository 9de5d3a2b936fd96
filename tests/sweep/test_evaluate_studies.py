"""The points of each study are what each of them is alone."""

import itertools

import numpy as np
import one_by_one
import pytest

import archlab
from archlab.analyzers.memory import setting
from archlab.config import load_serving
from archlab.hardware import load_hardware
from archlab.precision import load_precision
from archlab.sweep.axes import bare_key
from archlab.sweep.evaluate import positions, survey
from archlab.sweep.hold import budget
from archlab.sweep.measures import Asked
from archlab.sweep.study import load_study, studies

BASE = archlab.load("gemma-2-9b")
WORK = archlab.Workload(new=8192, logits="last")
H200 = {"hardware": "h200-sxm", "precision": "bf16", "engine": "ideal"}


# ---------------------------------------------------------------- the studies

DEFAULT = 20
FULL = 1000


def spread(key, values, generator, n):
    """n values of an axis: of numbers those between its ends too, whatever the rules make of them; of few rows two of
    what is no number, each of which is a structure.
    """
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        some = generator.permutation(len(values))[: 2 if n <= DEFAULT else len(values)]
        return [values[i] for i in generator.choice(some, n)]
    within = generator.integers(max(1, int(min(values))), int(max(values)) + 1, n).tolist()
    return [
        v if pick else w
        for pick, v, w in zip(generator.random(n) < 0.6, generator.choice(values, n).tolist(), within, strict=True)
    ]


def study_points(name, rows, places, limits):
    """Random rows of a study, over a sample of its models, workloads and places."""
    _, study = load_study(name)
    generator = np.random.default_rng(len(name))
    combinations = [*itertools.product(study.base, study.workloads, study.hardware, study.precision, study.engine)]
    chosen = [combinations[i] for i in sorted(generator.permutation(len(combinations))[:places])]
    for model, workload, hardware, precision, engine in chosen:
        base, n = archlab.load(model), -(-rows // len(chosen))
        work = load_serving(workload).work_for(base)
        place = {"hardware": hardware, "precision": precision, "engine": engine}
        place["timed"] = load_precision(precision).compute in load_hardware(hardware).peak_flops
        columns = {bare_key(k): spread(k, v, generator, n) for k, v in study.grid.items()}
        asked = Asked(setting(hardware, precision, engine), memory=True, limits=True)
        hold = (
            budget(study.hold, base, work, study.multiple, study.hold_by or "mlp.d_ff", asked.at)
            if study.hold
            else None
        )
        yield survey(base, work, asked, columns=columns, hold=hold).points(), base, work, place, limits


@pytest.mark.parametrize("name", studies())
def test_a_study_is_what_its_points_are(name):
    for points, base, work, place, limits in study_points(name, DEFAULT, places=2, limits=1):
        one_by_one.check(points, base, work, place, positions(points), limits)


@pytest.mark.slow
@pytest.mark.parametrize("name", studies())
def test_a_study_is_what_its_points_are_at_length(name):
    for points, base, work, place, limits in study_points(name, FULL, places=25, limits=1):
        one_by_one.check(points, base, work, place, positions(points), limits)
