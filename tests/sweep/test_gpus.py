"""Points timed on several GPUs: each in a process that sees one, rows and records as if there were one."""

import os

import pandas as pd
import pytest

import archlab
from archlab.sweep import gpus

WORDS = ["sweep", "attention_heads", "workload=short-512", "hardware=l4", "out=run"]


def measure_points(models, workloads, budget_seconds, raw, sampled):
    """In place of a GPU: which one it would have been, and the order in which points came."""
    assert sampled
    for name, spec in models:
        with raw.open("a") as file:
            file.write(f'{{"point": "{name}"}}\n')
        where = {"workload": workloads[0][0], "batch": 1, "context": 512, "device": os.environ["CUDA_VISIBLE_DEVICES"]}
        yield {
            "point": name,
            "base": spec.name,
            **where,
            "dtype": "bf16",
            "phase": "decode",
            "median_s": None,
            "status": "ok",
        }


@pytest.mark.slow
@pytest.mark.parametrize(("visible", "used"), [("", {"0", "1", "2"}), ("4,6,7", {"4", "6", "7"})])
def test_each_gpu_takes_its_share(visible, used, archlab_command, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("archlab.measure.points.measure_points", measure_points)
    monkeypatch.setattr("archlab.sweep.gather._render", lambda folder: folder / "report.html")
    monkeypatch.setattr(gpus, "START", "fork")  # the processes have what this test has put in place
    done = archlab_command(*WORDS)
    assert done.code == 0, done.err
    timed = pd.read_parquet("run/measured.parquet")
    points = pd.read_parquet("run/points.parquet")["point"].unique().tolist()
    assert timed["point"].tolist() == points and set(timed["device"]) == used
    assert timed["device"].tolist()[:3] == sorted(used)
    records = (tmp_path / "run" / "measured.jsonl").read_text().splitlines()
    assert len(records) == len(points) and len(set(records)) == len(records)
    assert len([*(tmp_path / "run").glob("measured*")]) == 2


@pytest.mark.slow
def test_a_point_travels_to_another_process(tmp_path):
    """Spawned for real: the model and the axes arrive whole."""
    points = {name: archlab.load(name) for name in ("gemma-2b", "gemma-3n-e2b", "recurrentgemma-2b")}
    rows = gpus.timed_on_each(["5", "6"], points, tmp_path / "raw.jsonl", sizes)
    assert [row["point"] for row in rows] == [*points]
    assert [row["params"] for row in rows] == [archlab.params(spec).total for spec in points.values()]
    assert [row["gpu"] for row in rows] == ["5", "6", "5"]


def sizes(raw, points):
    where = os.environ["CUDA_VISIBLE_DEVICES"]
    return [{"point": name, "params": archlab.params(spec).total, "gpu": where} for name, spec in points.items()]


def test_one_gpu_is_this_process(monkeypatch):
    import torch

    for count in (0, 1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert gpus.gpus() == []
