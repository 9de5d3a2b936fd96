"""What a model can be given: a mesh masks what a single point refuses, in the same words, whatever the axis."""

import itertools
from typing import Any

import numpy as np
import pytest

import archlab
from archlab.analyzers.memory import setting
from archlab.errors import ArchlabError
from archlab.sweep.measures import Asked, measures

CASES: dict[str, tuple[str, dict[str, list[int]]]] = {
    "images without a tower": ("gemma-3-1b", {"workload.images": [0, 1]}),
    "images that fit, and not": ("gemma-3-4b", {"workload.images": [0, 1, 8], "workload.context": [256, 1024]}),
    "images in a source": ("t5gemma-2-270m-270m", {"workload.images": [0, 1, 4], "workload.source": [0, 300]}),
    "images of a counted tower": ("gemma-3n-e2b", {"workload.images": [0, 1]}),
    "a source for a decoder": ("gemma-2-2b", {"workload.source": [0, 16]}),
    "a source": ("t5gemma-s-s", {"workload.source": [0, 16, 600], "encoder.n_layers": [1, 8]}),
    "a prefix": ("paligemma-3b-224", {"workload.prefix": [0, 9, 700], "workload.context": [64, 1024]}),
    "a prefix without its mask": ("gemma-2b", {"workload.prefix": [0, 4]}),
    "sizes of a tower": ("gemma-3-4b", {"vision.patches.image_size": [448, 896, 900], "workload.images": [0, 2]}),
    "pooling of a tower": ("gemma-3-4b", {"vision.projector.pool": [2, 4, 5], "workload.images": [1, 40]}),
    "a tower's widths": ("gemma-4-31b", {"vision.d_model": [576, 1152], "vision.n_layers": [1, 27]}),
    "experts": ("gemma-4-26b-a4b", {"moe.experts": [4, 128], "moe.top_k": [2, 8]}),
    "widths of 3n": ("gemma-3n-e2b", {"per_layer_embedding.width": [64, 256], "altup.streams": [1, 2, 4]}),
    "a recurrence": ("recurrentgemma-2b", {"recurrent.width": [2560, 2565], "recurrent.conv": [1, 4]}),
    "layers that spans name": ("gemma-3n-e2b", {"n_layers": [10, 20, 30]}),
    "positions of a table": (
        "gpt2-xl",
        {"position_embedding.table_rows": [512, 1024, 2048], "workload.context": [600, 1024, 1500]},
    ),
}


def scalar(name: str, values: dict[str, int]) -> dict[str, Any] | None:
    """The numbers of one point, alone; None where it is refused."""
    sizes = {k.removeprefix("workload."): v for k, v in values.items() if k.startswith("workload.")}
    context = sizes.pop("context", 1024)
    try:
        spec = archlab.load(name, {k: v for k, v in values.items() if not k.startswith("workload.")})
        return measures(spec, archlab.Workload(context=context, **sizes), Asked(setting(None, "bf16", "ideal")))
    except ArchlabError:
        return None


@pytest.mark.parametrize("case", CASES)
def test_a_mesh_refuses_and_counts_what_its_points_do(case):
    name, grid = CASES[case]
    points = archlab.evaluate(archlab.load(name), archlab.Workload(context=1024), grid=grid)
    stood = 0
    for position, values in zip(np.ndindex(points.shape), itertools.product(*grid.values()), strict=True):
        alone = scalar(name, dict(zip(grid, values, strict=True)))
        assert bool(np.broadcast_to(points.ok, points.shape)[position]) == (alone is not None), values
        if alone is None:
            assert points.reason(position)
            continue
        stood += 1
        for column, value in alone.items():
            assert points[column][position] == pytest.approx(value, rel=1e-12), (values, column)
    assert stood


def test_a_workload_of_a_file_is_read_for_the_model():
    from archlab.config import load_serving

    sizes = {}
    for name in ("gemma-2-2b", "t5gemma-2b-2b", "paligemma-3b-224"):
        work = load_serving("chat-8k").work_for(archlab.load(name))
        sizes[name] = (work.source, work.prefix, work.new_source, work.decode().new_source)
    assert sizes == {
        "gemma-2-2b": (0, 0, 0, 0), "t5gemma-2b-2b": (8192, 0, 8192, 0), "paligemma-3b-224": (0, 8192, 0, 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"context": 10, "source": 1000, "new_source": 100}, "new_source=100 must be 0 or source=1000"),
        ({"context": 10, "prefix": 8, "new_prefix": 4}, "new_prefix=4 must be 0 or prefix=8"),
        ({"context": 10, "prefix": 11}, "prefix=11 must not exceed context=10"),
        ({"context": 10, "images": 1, "new_images": 2}, "new_images=2 must not exceed images=1"),
        ({"context": 10, "new": 11}, "new=11 must not exceed context=10"),
        ({"context": 10, "source": -1}, "source=-1 must be a whole number of 0 or more"),
    ],
)
def test_workloads_that_cannot_be(sizes, words):
    with pytest.raises(ArchlabError, match=words):
        archlab.Workload(**sizes)


def test_formulas_know_the_source_and_refuse_a_step_of_an_encoder():
    assert "E" in {str(s) for s in archlab.formula("kv_cache", archlab.load("t5gemma-2b-2b")).free_symbols}
    with pytest.raises(ArchlabError, match="reads whole sequences"):
        archlab.formula("flops_decode", archlab.load("embeddinggemma-300m"))
