"""archlab search on the command line: what it prints, and one sentence for what cannot be."""

import json
import sys

import pandas as pd
import pytest
import yaml

pytest.importorskip("optuna")

GOOD = {
    "question": "Which small decoder?",
    "base": ["gemma-3-270m"],
    "grid": {"model.attention.n_kv_heads": [1, 2, 4]},
    "workloads": ["short-512"],
    "hardware": ["l4"],
}


def test_a_table_and_a_sentence(archlab_command, tmp_path):
    done = archlab_command("search", "attention_heads", "--trials", "60", "--out", "run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split()[:2] == ["trial", "attention.n_kv_heads"] and "min memory_bytes" in lines[0]
    assert lines[-1].startswith("5 trials, 5 feasible, ") and " on the front, " in lines[-1]
    assert "archlab search attention_heads --trials=60 --out=run" in done.err
    assert len(pd.read_parquet(tmp_path / "run" / "trials.parquet")) == 5


def test_json_is_one_document(archlab_command, tmp_path):
    done = archlab_command("search", "attention_heads", "--json", "--out", "run")
    told = json.loads(done.out)
    assert told["folder"] == "run" and told["trials"] == told["feasible"] == 5 and told["whole"]
    assert {row["model.attention.n_kv_heads"] for row in told["best"]} == {1, 2}
    stored = json.loads((tmp_path / "run" / "search.json").read_text())
    assert stored == {k: v for k, v in told.items() if k != "folder"}
    assert stored["provenance"]["packages"]["optuna"] and len(stored["provenance"]["config_hash"]) == 64


def test_the_same_command_goes_on(archlab_command, tmp_path):
    for _ in range(2):
        assert archlab_command("search", "window").code == 0
    (folder,) = (tmp_path / "runs" / "window").iterdir()
    assert len(pd.read_parquet(folder / "trials.parquet")) == 5


def test_nothing_feasible_is_exit_code_1(archlab_command):
    done = archlab_command("search", "window", "where=memory_bytes < 1 GiB")
    assert done.code == 1 and "no trial is feasible:" in done.out and "memory_bytes < 1 GiB does not hold" in done.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["windw"], "unknown study 'windw'; did you mean 'window'?"),
        (["window", "hardware=h20"], "unknown device 'h20'"),
        (["window", "precision=bf61"], "unknown precision 'bf61'; did you mean 'bf16'?"),
        (["window", "workload=chat"], "unknown workload 'chat'; did you mean 'chat-8k'?"),
        (["window", "model=gema-2b"], "unknown model 'gema-2b'; did you mean 'gemma-2b'?"),
        (["window", "model.local.windw=1,2"], "unknown key model.local.windw; did you mean 'model.local.window'?"),
        (["window", "model.local.windw=1"], "did you mean 'window'?"),
        (["window", "hold=parms"], "did you mean 'params'?"),
        (["window", "hodl=params"], "unknown key hodl; did you mean 'hold'?"),
        (["window", "objectives=min decode_bound"], "unknown column 'decode_bound'; did you mean 'decode_bound_s'?"),
        (["window", "objectives=minn params"], "must begin with min or max; did you mean 'min'?"),
        (["window", "where=memory_byts < 3e9"], "unknown column 'memory_byts'; did you mean 'memory_bytes'?"),
        (["window", "where=memory_bytes <"], "is not a condition"),
        (["window", "objectives=min hardware"], "hardware holds names, not numbers"),
        (["window", "model.local.window=5", "model.local.window=6"], "model.local.window is given twice"),
        (["window", "model.local.window=5"], "there is nothing to search"),
        (["window", "and more"], "unexpected word 'and more'"),
        (["window", "~model.local.window"], "unexpected word"),
        (["window", "model=(("], "is not key=value as Hydra reads it"),
        (["window", "--trials", "0"], "search.trials=0 must be a whole number from 1"),
        (["window", "--sampler", "nsga"], "search.sampler='nsga' must be one of nsga2, tpe; did you mean 'nsga2'?"),
        (["window", "--seed", "-1"], "search.seed=-1 must be a whole number from 0"),
        (["window", "hardware=t4"], "t4 has no bf16 rate"),
        (["attention_heads", "model.mlp.d_ff=1024,2048"], "hold rescales model.mlp.d_ff"),
    ],
)
def test_bad_words_are_one_sentence(archlab_command, tmp_path, words, sentence):
    done = archlab_command("search", *words)
    assert done.code == 2 and sentence in done.err, done.err
    assert len(done.err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"where": ["params <"]}, "is not a condition"),
        ({"where": "params < 3"}, "where='params < 3' must be a list of conditions"),
        ({"objectives": ["params", "min params"]}, "objectives name params twice"),
        ({"objectives": ["small params"]}, "must begin with min or max"),
        (
            {"hold_by": "mlp.dff"},
            "hold_by='mlp.dff' must be one of mlp.d_ff, n_layers, d_model; did you mean 'mlp.d_ff'?",
        ),
        ({"hold_multiple": 0}, "hold_multiple=0 must be a whole number of 1 or more or null"),
        ({"hold_workload": "chat"}, "unknown workload 'chat'; did you mean 'chat-8k'?"),
        ({"rows": "few"}, "rows='few' must be one of auto, all, kept"),
        ({"epsilon": 0}, "epsilon=0 must be a number above 0 or null"),
        ({"per_character": "yes"}, "per_character='yes' must be true or false"),
        ({"axis": "windw"}, "windw"),
        ({"grid": {"hardware": ["l5"]}}, "unknown device 'l5'"),
        ({"grid": {"precision": ["bf61"]}}, "unknown precision 'bf61'"),
        ({"grid": {"engine": ["vlm"]}}, "unknown engine 'vlm'"),
        (
            {"grid": {"hardware.bandwidth": [1e12]}},
            "unknown key hardware.bandwidth; did you mean 'hardware.bandwidth_bytes_per_s'?",
        ),
        (
            {"grid": {"hardware.bandwidth_bytes_per_s": [0]}},
            "hardware.bandwidth_bytes_per_s=0 must be a number above 0",
        ),
        ({"search": {"space": {}}}, "search.space={} must be a table"),
        ({"search": {"trial": 3}}, "unknown key search.trial; did you mean 'trials'?"),
        ({"search": {"space": {"model.n_layer": [1]}}}, "unknown key model.n_layer; did you mean 'model.n_layers'?"),
        ({"search": {"space": {"base": ["gema-2b"]}}}, "unknown model 'gema-2b'"),
        ({"search": {"space": {"model.n_layers": {"low": 9, "high": 3}}}}, "low=9 must not exceed high=3"),
        ({"search": {"space": {"model.n_layers": {"low": 1.5, "high": 3}}}}, "low=1.5 must be a whole number"),
        ({"search": {"space": {"model.n_layers": {"lo": 1, "high": 3}}}}, "unknown key lo; did you mean 'low'?"),
        (
            {"search": {"space": {"model.n_layers": {"low": 1, "high": 8, "step": 2, "log": True}}}},
            "a step or log: true, not both",
        ),
        ({"search": {"space": {"precision": {"low": 1, "high": 8}}}}, "precision has names, not numbers"),
    ],
)
def test_studies_that_cannot_be(archlab_command, tmp_path, change, sentence):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GOOD | change))
    done = archlab_command("search", "mine.yaml")
    assert done.code == 2 and sentence in done.err, done.err
    assert len(done.err.strip().splitlines()) == 1


def test_without_optuna(archlab_command, monkeypatch, tmp_path):
    for name in [n for n in sys.modules if n == "optuna" or n.startswith(("optuna.", "archlab.sweep.search_log"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = archlab_command("search", "window")
    assert done.code == 2 and done.err.strip() == 'archlab: search needs Optuna: pip install "archlab[search]"'
    assert not list(tmp_path.iterdir())
