"""Searches: the front that the whole grid has, whatever happens to the process on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml

import archlab
from archlab.errors import ArchlabError
from archlab.sweep.pareto import front
from archlab.sweep.search import search
from archlab.sweep.search_words import read_words
from archlab.sweep.study import FURTHER, overrides, study_from

pytest.importorskip("optuna")

STUDY = {
    "question": "Which small decoder?",
    "base": ["gemma-3-270m"],
    "grid": {"model.attention.n_kv_heads": [1, 2, 4], "model.mlp.d_ff": [512, 1024, 2048, 4096]},
    "workloads": ["short-512"],
    "hardware": ["l4", "rtx-4090"],
    "objectives": ["min decode_bound_s", "max params"],
}
WIDE = {
    "model.attention.n_kv_heads": [1, 2, 4],
    "model.n_layers": {"low": 6, "high": 30, "step": 6},
    "model.mlp.d_ff": {"low": 512, "high": 8192, "step": 256},
    "model.local.window": [64, 128, 256, 512],
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """study(changes) -> the name of a file in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(STUDY | changes))
        return "mine.yaml"

    return write


def found_by(name, *words, out=None, **options):
    return search(read_words(name, words, options), out)


def full_grid(study, **more):
    spec = archlab.load(study["base"][0])
    work = archlab.Workload(new=512, logits="last")
    return archlab.evaluate(spec, work, study["hardware"][0], grid=study["grid"], memory=True, **more).frame()


def of_the_front(found):
    return found.trials.iloc[found.front]


def test_a_space_of_few_points_is_tried_whole(study):
    found = found_by(study(), trials=60)
    grid = full_grid(STUDY)
    values = grid[["decode_bound_s", "params"]].to_numpy()
    best = grid.iloc[front(values, ["min", "max"])]
    assert len(found.trials) == 12 and found.document["whole"]
    assert set(of_the_front(found)["params"]) == set(best["params"])
    assert sorted(of_the_front(found)["decode_bound_s"]) == pytest.approx(sorted(best["decode_bound_s"]), rel=1e-12)
    for name in grid.columns:
        if name.endswith(("_bytes", "_s")):
            assert sorted(found.trials[name]) == pytest.approx(sorted(grid[name]), rel=1e-12), name


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_sampler_comes_close_to_the_whole_front(study, sampler):
    """1,860 points, 300 trials: the front found covers at least 97 % of the area that the whole grid's covers."""
    name = study(search={"space": WIDE})
    found = found_by(name, trials=300, sampler=sampler)
    grid = {**WIDE, "model.n_layers": range(6, 31, 6), "model.mlp.d_ff": range(512, 8193, 256)}
    whole = full_grid({**STUDY, "grid": grid})
    assert len(found.trials) == 300 and not found.document["whole"] and found.document["points_of_space"] == len(whole)
    assert covered(of_the_front(found), whole) > 0.97 * covered(whole, whole)
    assert found.trials["number"].tolist() == list(range(300))


def covered(points, among):
    """Area that points beat, of seconds and parameters scaled to 0..1 among all."""
    scaled = [
        (points[name] - among[name].min()) / (among[name].max() - among[name].min())
        for name in ("decode_bound_s", "params")
    ]
    area, highest = 0.0, 0.0
    for cost, gain in sorted(zip(scaled[0], scaled[1], strict=True), key=lambda pair: (pair[0], -pair[1])):
        area += max(gain - highest, 0) * (1 - cost)
        highest = max(highest, gain)
    return area


def test_the_base_is_the_first_trial_of_a_sampler(study):
    found = found_by(study(search={"space": WIDE}), trials=60)
    first = found.trials.iloc[0]
    assert first["is_base"] and first["params"] == archlab.params(archlab.load("gemma-3-270m")).total
    assert found.document["base"]["params"] == first["params"]


def test_a_seed_gives_the_same_trials_and_another_seed_others(study, tmp_path):
    name = study(search={"space": WIDE})
    seeds = (3, 3, 4)
    runs = [found_by(name, out=tmp_path / f"o{i}", trials=70, seed=s).trials for i, s in enumerate(seeds)]
    pd.testing.assert_frame_equal(runs[0], runs[1], check_exact=True)
    assert not runs[0]["model.mlp.d_ff"].equals(runs[2]["model.mlp.d_ff"])


@pytest.mark.parametrize(
    ("sampler", "trials", "space"), [("nsga2", 120, WIDE), ("tpe", 35, WIDE), ("nsga2", 60, STUDY["grid"])]
)
def test_a_log_cut_anywhere_goes_on_as_if_it_had_not_been(study, tmp_path, sampler, trials, space):
    """A killed process leaves the beginning of its log, cut at any byte; trials with all their values are kept."""
    name = study(search={"space": space})
    whole = found_by(name, out=tmp_path / "whole", trials=trials, sampler=sampler)
    log = (tmp_path / "whole" / "search.log").read_bytes()
    for n, at in enumerate(sorted(random.Random(0).sample(range(len(log)), 7))):
        out = tmp_path / f"cut{n}"
        out.mkdir()
        (out / "search.log").write_bytes(log[:at])
        again = found_by(name, out=out, trials=trials, sampler=sampler)
        pd.testing.assert_frame_equal(again.trials, whole.trials, rtol=1e-12, atol=0)
        assert again.front == whole.front


def test_a_process_that_is_killed_loses_no_trial(study, tmp_path):
    name, log = study(search={"space": WIDE}), tmp_path / "out" / "search.log"
    command = [sys.executable, "-m", "archlab", "search", name, "--trials", "400", "--out", "out", "--json"]
    for size in (20_000, 120_000):  # about the 60th and the 400th trial
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not (log.exists() and log.stat().st_size > size):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        process.stdout.close(), process.stderr.close()
    before = log.read_bytes()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert log.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert json.loads(done.stdout)["trials"] == 400
    table = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    straight = found_by(name, out=tmp_path / "straight", trials=400).trials
    assert table["model.mlp.d_ff"].tolist() == straight["model.mlp.d_ff"].tolist()
    assert table["decode_bound_s"].to_numpy() == pytest.approx(straight["decode_bound_s"].to_numpy(), rel=1e-12)


def test_more_trials_go_on_from_those_that_were(study, tmp_path):
    name = study(search={"space": WIDE})
    first = found_by(name, trials=50).trials
    more = found_by(name, trials=80).trials
    assert len(more) == 80
    assert more["model.mlp.d_ff"].tolist()[:50] == first["model.mlp.d_ff"].tolist()
    fewer = found_by(name, trials=20)
    assert len(fewer.trials) == 80  # what was tried is not thrown away


def test_conditions_are_respected_and_those_outside_say_which(study):
    limit = 420 * 2**20
    name = study(where=["memory_bytes <= 420 MiB", "n_kv_heads in [1, 2]"], search={"space": WIDE})
    found = found_by(name, trials=150)
    best, outside = of_the_front(found), found.trials[found.trials["state"] == "outside"]
    assert (best["memory_bytes"] <= limit).all() and set(best["model.attention.n_kv_heads"]) <= {1, 2}
    feasible = found.trials["state"] == "feasible"
    holds = (found.trials["memory_bytes"] <= limit) & found.trials["model.attention.n_kv_heads"].isin([1, 2])
    assert (feasible == holds).all() and (found.trials.loc[feasible, "violation"] == 0).all()
    assert outside["reason"].str.contains("memory_bytes <= 420 MiB|n_kv_heads in").all()
    late, early = feasible.iloc[100:].mean(), feasible.iloc[:50].mean()
    assert late > early  # it learns where points are feasible


def test_a_violation_is_how_far_a_limit_is_missed(study):
    name = study(where=["memory_bytes <= 560 MiB"])
    table = found_by(name).trials
    over = table["memory_bytes"] / (560 * 2**20) - 1
    expected = np.where(over > 0, over / (1 + over), 0)
    assert table["violation"].to_numpy() == pytest.approx(expected)
    assert (expected > 0).any() and (expected == 0).any()


def test_points_that_cannot_be_are_trials_that_say_why(study):
    space = {"model.attention.n_kv_heads": [1, 3, 4], "model.mlp.d_ff": {"low": 512, "high": 4096, "step": 64}}
    found = found_by(study(search={"space": space}), trials=60)
    refused = found.trials[found.trials["state"] == "refused"]
    assert len(refused) and set(refused["model.attention.n_kv_heads"]) == {3}
    assert refused["reason"].str.contains("must be a multiple of n_kv_heads").all() and refused["params"].isna().all()
    assert 3 not in set(of_the_front(found)["model.attention.n_kv_heads"])


def test_devices_precisions_and_patterns_are_dimensions(study):
    space = {
        "hardware": ["l4", "t4"],
        "precision": ["bf16", "int4"],
        "model.pattern": [["global"], ["local*5", "global"]],
        "hardware.bandwidth_bytes_per_s": [3e11, 6e11],
    }
    found = found_by(study(search={"space": space}))
    assert len(found.trials) == 16 and set(found.trials["model.pattern"]) == {"global", "local*5 global"}
    assert (found.trials.loc[found.trials["hardware"] == "t4", "state"] == "refused").sum() > 0  # it has no bf16
    best = of_the_front(found)
    assert set(best["hardware"]) == {"l4"} and set(best["hardware.bandwidth_bytes_per_s"]) == {6e11}


def test_words_fix_a_value_or_search_several(study):
    found = found_by(
        study(), "model.mlp.d_ff=1024", "hardware=l4,rtx-4090", "precision=int4", "objectives=min decode_bound_s"
    )
    assert set(found.document["space"]) == {"model.attention.n_kv_heads", "hardware"} and len(found.trials) == 6
    assert (
        set(found.trials["base"]) == {"gemma-3-270m mlp d_ff=1024"} or found.trials["base"].str.contains("1024").all()
    )
    assert set(found.trials["precision"]) == {"int4"}
    at = found_by(study(), "model.mlp.d_ff=tag(log,interval(512,4096))", "workload.batch=4", trials=60)
    assert at.document["space"]["model.mlp.d_ff"] == {"low": 512, "high": 4096, "step": 1, "log": True}
    assert set(at.trials["batch"]) == {4}


def test_what_is_held_is_held(study):
    grid = {"model.attention.n_kv_heads": [1, 2, 4]}
    found = found_by(study(grid=grid, hold="params"))
    base = archlab.params(archlab.load("gemma-3-270m")).total
    assert (abs(found.trials["params"] / base - 1) < 0.01).all() and found.trials["d_ff"].nunique() == 3
    with pytest.raises(ArchlabError, match="hold rescales"):
        found_by(study(hold="params"))


def test_objectives_that_a_study_does_not_name(study):
    named = found_by(study(objectives=[])).document["objectives"]
    assert [o["name"] for o in named] == ["memory_bytes", "prefill_bound_s", "decode_bound_s"]
    encoder = {"base": ["embeddinggemma-300m"], "grid": {"model.local.window": [128, 512]}, "objectives": []}
    assert [o["name"] for o in found_by(study(**encoder)).document["objectives"]] == ["memory_bytes", "prefill_bound_s"]


def test_a_folder_holds_one_search(study, tmp_path):
    name = study(search={"space": WIDE})
    found_by(name, out=tmp_path / "out", trials=10)
    with pytest.raises(ArchlabError, match=r"holds mine-[0-9a-f]+, a search of another study"):
        found_by(name, out=tmp_path / "out", trials=10, seed=1)
    assert found_by(name, trials=10).folder != found_by(name, trials=10, seed=1).folder
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "search.log").write_text("hello\n")
    with pytest.raises(ArchlabError, match="is not the log of a search"):
        found_by(name, out=tmp_path / "odd", trials=10)


@pytest.mark.skipif(os.name == "nt", reason="no such lock there")
def test_a_folder_is_searched_by_one_process(study, tmp_path):
    import fcntl

    name = study(search={"space": WIDE})
    found_by(name, out=tmp_path / "out", trials=10)
    with (tmp_path / "out" / "search.lock").open("r+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ArchlabError, match="in use by another search"):
            found_by(name, out=tmp_path / "out", trials=10)


def test_a_study_hands_hydra_what_differs_from_the_defaults():
    """Each override is read by Hydra as the value that the study has."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    own = {
        "where": ["memory_bytes <= 24 GiB", "hardware in ['l4', 't4']"],
        "objectives": ["min params"],
        "rows": "kept",
    }
    own |= {"axis": "window", "hold_by": "n_layers", "per_character": True, "epsilon": 0.1, "quality": "my losses.csv"}
    plain, changed = (study_from(STUDY | {"objectives": []} | more) for more in ({}, own))
    assert not {word.partition("=")[0] for word in overrides(plain)} & set(FURTHER)
    read = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(overrides(changed))}
    for key, value in own.items():
        found = read[key]
        assert (
            [getattr(v, "text", v) for v in found] == value
            if isinstance(value, list)
            else getattr(found, "text", found) == value
        )
    assert read["hold_multiple"] is None and changed.multiple == 1 and plain.multiple == 64


def test_epsilon_thins_the_front(study):
    all_of_it = found_by(study(search={"space": WIDE}), trials=100)
    few = found_by(study(search={"space": WIDE}, epsilon=0.2), trials=100)
    assert 0 < len(few.front) < len(all_of_it.front) and set(few.front) <= set(all_of_it.front)
