"""Which points and places of a sweep have maps and rooflines, and that a run has their tables."""

import pandas as pd
import pytest

import archlab
from archlab.analyzers.memory import setting
from archlab.config import load_serving
from archlab.sweep.served import Place, Served, Work, of_models

CUT = ["model=gemma-3-1b", "model.local.window=256,512", "workload=chat-8k", "measure=never", "out=run"]


def table(folder, name):
    return pd.read_parquet(folder / "run" / f"{name}.parquet")


def test_a_sweep_writes_both_tables(archlab_command, tmp_path):
    done = archlab_command("sweep", *CUT, "hardware=t4", "engine=llama_cpp", "precision=q8_0")
    assert done.code == 0, done.err
    batches, operations = table(tmp_path, "batches"), table(tmp_path, "operations")
    names = set(table(tmp_path, "points")["point"])
    assert set(batches["point"]) == set(operations["point"]) == names and len(names) == 2
    assert set(batches["hardware"]) == {"t4"} and set(batches["engine"]) == {"llama_cpp"}
    for row in batches.drop_duplicates(["point", "hardware"]).to_dict("records"):
        window = 256 if "256" in row["point"] else 512
        spec = archlab.load("gemma-3-1b", {"local.window": window})
        found = archlab.fit(spec, row["hardware"], "q8_0", row["batch"], row["context"], "llama_cpp")
        assert (row["memory_bytes"], row["max_batch"]) == (found.memory.needed, found.max_batch)
    assert (tmp_path / "run" / "report.html").read_text().count('data-fig="context-batch"') == 1


def test_where_an_axis_says_where_there_are_none(archlab_command, tmp_path):
    done = archlab_command("sweep", *CUT, "hardware=rtx-4090", "hardware.memory_bytes=8GiB,24GiB")
    assert done.code == 0, done.err
    assert {p.stem for p in (tmp_path / "run").glob("*.parquet")} & {"batches", "operations"} == set()


def served(n):
    specs = {f"p{i}": None for i in range(n)}
    released = dict.fromkeys(list(specs)[5:6])
    return Served([released, {}, {k: v for k, v in specs.items() if k not in released}], [], [])


@pytest.mark.parametrize(("most", "names"), [(1, ["p5"]), (3, ["p5", "p0", "p9"]), (12, None)])
def test_the_released_come_first_and_the_others_evenly(most, names):
    found = list(served(10).some(most))
    assert found == names if names else len(found) == 10


def test_one_of_many_that_are_alike_is_the_middle_one():
    specs = {f"p{i}": None for i in range(5)}
    assert list(Served([specs], [], []).some(1)) == ["p2"] and list(Served([specs], [], []).some(2)) == ["p0", "p4"]


def test_the_shortest_and_the_longest_work():
    serving = load_serving("chat-8k")
    works = [Work(f"w{c}", serving, 1, c) for c in (8192, 512, 131072, 2048)]
    place = Place("t4", "fp16", "ideal", setting("t4", "fp16", "ideal"))
    assert [w.context for w in Served([], [place], works).reaches(2)] == [512, 131072]
    assert works[1].of(archlab.load("gemma-3-1b")).context == 512


def test_of_many_devices_a_few():
    found = of_models([archlab.load("gemma-3-1b")], ["chat-8k"], ["t4", "l4", "rtx-4090", "h100-sxm", "b200"], "fp16")
    assert [place.hardware for place in found.places] == ["t4", "rtx-4090", "b200"]
