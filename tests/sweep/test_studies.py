"""Studies end to end: from a YAML and a command line to tables, through Hydra."""

import json
import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sympy
import yaml

import archlab
from archlab.errors import SpecError
from archlab.paths import data_dir
from archlab.sweep.argv import prepare
from archlab.sweep.argv_words import text_of
from archlab.sweep.column_names import DESCRIBED
from archlab.sweep.results import describe_point
from archlab.sweep.study import load_study, studies

QUIET = ["measure=never", "out=run"]


def points(folder, name="points"):
    return pd.read_parquet(folder / "run" / f"{name}.parquet")


@pytest.mark.parametrize("name", studies())
def test_every_study_is_whole(name):
    """Names and axes exist, the released shape is among the points, and a CPU has something small to time."""
    _, study = load_study(name)
    assert study.question.endswith("?")
    spec = archlab.load(study.base[0])
    grid = {key.removeprefix("model."): values for key, values in study.grid.items()}
    frame = archlab.evaluate(spec, archlab.Workload(new=1024), grid=grid).frame()
    assert (frame["status"] == "ok").all() and (frame["params"] == archlab.params(spec).total).any()
    assert study.on_cpu is not None or study.measure == "never"


def test_the_default_study(archlab_command, tmp_path):
    done = archlab_command("sweep", "attention_heads", "--json", *QUIET)
    assert done.code == 0
    outcome = json.loads(done.out)
    assert outcome["rows"] == {"ok": 20} and (tmp_path / outcome["report"]).is_file()
    frame = points(tmp_path)
    assert set(frame["workload"]) == {"chat-8k", "long-128k"} and set(frame["hardware"]) == {"h200-sxm", "rtx-4090"}
    for row in frame.to_dict("records"):
        kv = int(row["model.attention.n_kv_heads"])
        spec = archlab.load("gemma-2-9b", {"attention.n_kv_heads": kv, "mlp.d_ff": int(row["d_ff"])})
        work = archlab.Workload(new=int(row["context"]), logits="last")
        assert row["is_base"] == (kv == 8)
        assert row["params"] == archlab.params(spec).total
        assert abs(row["hold_residual"]) < 0.002
        assert row["kv_cache_bytes"] == archlab.kv_cache(spec, int(row["context"])).total
        assert row["flops_prefill"] == archlab.flops(spec, work).total
        assert row["decode_bound_s"] == pytest.approx(
            archlab.latency(spec, work.decode(), row["hardware"]).bound_seconds
        )
    assert len(points(tmp_path, "layers")) == 5 * 42
    assert points(tmp_path, "curves")["context"].max() == 131072


@pytest.mark.slow
def test_the_formulas_shown_are_the_bases_own(archlab_command, tmp_path):
    archlab_command("sweep", "local_global_ratio", *QUIET)
    shown = json.loads((tmp_path / "run" / "run.json").read_text())["formulas"]
    assert shown[0]["text"] == str(archlab.formula("kv_cache", archlab.load("gemma-3-27b-text")))


def test_formulas_have_a_letter_for_what_moves(archlab_command, tmp_path):
    """Each is held against the rows of the run, whose points differ in that letter."""
    archlab_command("sweep", "attention_heads", *QUIET)
    shown = {f["metric"]: f for f in json.loads((tmp_path / "run" / "run.json").read_text())["formulas"]}
    assert shown["params"]["letters"] == "K attention.n_kv_heads, F mlp.d_ff"
    for row in points(tmp_path).to_dict("records"):
        values = {"K": row["model.attention.n_kv_heads"], "F": row["d_ff"], "B": row["batch"], "S": row["context"]}
        found = {metric: sympy.sympify(f["text"], locals=values) for metric, f in shown.items()}
        assert found["params"] == row["params"]
        assert found["kv_cache"] == row["kv_cache_bytes"]
        if row["context"] > 4096:
            assert found["flops_decode"] == row["flops_decode"]


@pytest.mark.slow
def test_provenance_is_in_the_run_and_in_each_table(archlab_command, tmp_path):
    archlab_command("sweep", "window", *QUIET)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["provenance"]
    assert facts["command"] == "archlab sweep window measure=never out=run"
    assert facts["archlab"] == archlab.__version__ and len(facts["config_hash"]) == 64
    for name in ("points", "curves", "layers"):
        metadata = pq.read_schema(tmp_path / "run" / f"{name}.parquet").metadata
        assert json.loads(metadata[b"archlab"]) == facts


def test_value_axes_are_folded_and_groups_stay_hydras():
    command = prepare(
        ["-m", "model=gemma-2b,gemma-7b", "model.mlp.d_ff=64,128", "workload.context=8k,32k", "hold=null"]
    )
    assert "model=gemma-2b,gemma-7b" in command.argv()
    assert "++grid={model.mlp.d_ff:[64,128],workload.context:[8192,32768]}" in command.argv()
    assert (
        prepare(["study=window", "model.local.window=64,128"]).settings["grid"]
        == "++grid={model.local.window:[64,128]}"
    )
    assert prepare(["study=window", "model.local.window=64"]).settings["grid"] == "++grid={}"
    assert prepare(["study=window", "hardware=l4"]).settings["hardware"] == "hardware=l4"
    assert prepare(["study=window"]).run_id == prepare(["study=window", "out=elsewhere"]).run_id


def test_an_ad_hoc_sweep(archlab_command, tmp_path):
    words = ["-m", "model=gemma-2-2b,gemma-3-1b", "model.attention.head_dim=64,128", "hardware=l4,t4", "precision=fp16"]
    done = archlab_command("sweep", *words, *QUIET)
    assert done.code == 0
    frame = points(tmp_path)
    assert len(frame) == 8 and set(frame["point"]) == {
        f"{base} head_dim={n}" for base in ("gemma-2-2b", "gemma-3-1b") for n in (64, 128)
    }


def test_a_key_that_no_file_has_is_taken(archlab_command, tmp_path):
    archlab_command("sweep", "model=gemma-3-1b", "model.attention.softcap=30", "model.local.window=64,128", *QUIET)
    assert set(points(tmp_path)["point"]) == {f"gemma-3-1b softcap=30 local window={w}" for w in (64, 128)}


def test_points_that_fail_are_rows_that_say_why(archlab_command, tmp_path):
    words = ["model=gemma-2b,gemma-2-9b", "model.attention.n_kv_heads=1,3,many", "hardware=t4", "workload=short-512"]
    assert archlab_command("sweep", *words, *QUIET).code == 1  # nothing stands
    frame = points(tmp_path)
    assert set(frame["status"]) == {"failed", "refused"} and len(frame) == 6
    assert "t4 has no bf16 rate; its matrix products run in fp32, fp16, int8, int4" in set(frame["reason"])
    assert "prefill_bound_s" not in frame
    assert archlab_command("sweep", *words, "precision=fp16", "measure=never", "out=run2").code == 0
    frame = pd.read_parquet(tmp_path / "run2" / "points.parquet").set_index("point")
    assert frame.loc["gemma-2b n_kv_heads=1", "status"] == "ok"
    assert "n_heads (8) must be a multiple of n_kv_heads (3)" in frame.loc["gemma-2b n_kv_heads=3", "reason"]
    assert "n_kv_heads='many' must be a whole number" in frame.loc["gemma-2b n_kv_heads=many", "reason"]


@pytest.mark.slow
def test_a_job_that_cannot_be_does_not_stop_the_others(archlab_command, tmp_path):
    words = ["model=gemma-2b,gemma-2-9b", "model.local.window=128", "hardware=l4", "workload=short-512"]
    assert archlab_command("sweep", *words, *QUIET).code == 0
    frame = points(tmp_path).set_index("base")
    assert "no layer of the pattern" in frame.loc["gemma-2b", "reason"]
    assert frame.loc["gemma-2-9b local window=128", "status"] == "ok"


@pytest.mark.slow
def test_a_finished_block_is_not_computed_again(archlab_command, tmp_path, monkeypatch):
    words = ["sweep", "window", *QUIET]
    archlab_command(*words)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "blocks").glob("*.parquet")}
    monkeypatch.setattr("archlab.sweep.block._part", lambda *_: pytest.fail("computed again"))
    assert archlab_command(*words).code == 0
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "blocks").glob("*.parquet")}


@pytest.mark.slow
def test_other_code_makes_another_block(archlab_command, tmp_path, monkeypatch):
    words = ["sweep", "window", *QUIET]
    archlab_command(*words)
    before = {p.name for p in (tmp_path / "run" / "blocks").glob("*.parquet")}
    monkeypatch.setattr("archlab.sweep.block.code_version", lambda folders: "other")
    assert archlab_command(*words).code == 0
    after = {p.name for p in (tmp_path / "run" / "blocks").glob("*.parquet")}
    assert len(after) == 2 * len(before) and len(points(tmp_path)) == 20


@pytest.mark.slow
def test_a_folder_that_holds_another_run_does_not_mix(archlab_command, tmp_path):
    archlab_command("sweep", "window", *QUIET)
    archlab_command("sweep", "head_dim", *QUIET)
    assert set(points(tmp_path)["base"]) == {"gemma-2-9b"}


@pytest.mark.slow
def test_two_tables_of_losses_are_two_runs(archlab_command, tmp_path):
    """What a table says is part of a run's name: another one does not write over it."""
    found = []
    for loss in (2.5, 3.5):
        (tmp_path / "losses.csv").write_text(f"model,loss\ngemma-2-9b,{loss}\n")
        done = archlab_command(
            "sweep", "attention_heads", "quality=losses.csv", "hardware=l4", "measure=never", "--json"
        )
        found.append(json.loads(done.out)["run"])
    read = [
        pd.read_parquet(tmp_path / run / "points.parquet")["quality_loss"].dropna().unique().tolist() for run in found
    ]
    assert found[0] != found[1] and read == [[2.5], [3.5]]


@pytest.mark.slow
def test_hydras_own_flags(tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "archlab.sweep", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    shown = yaml.safe_load(run("study=attention_heads", "--cfg", "job"))
    assert shown["model"]["name"] == "gemma-2-9b" and shown["grid"] == {"model.attention.n_kv_heads": [1, 2, 4, 8, 16]}
    assert "conf" in run("--info", "searchpath")
    assert yaml.safe_load(run("-m", "study=window", "--cfg", "job"))["model"]["name"] == "gemma-3-27b-text"
    assert list(tmp_path.iterdir()) == []


def test_models_of_ones_own(archlab_command, tmp_path):
    """A YAML in a folder given to Hydra, starting from a shipped model as Hydra files do."""
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text(
        "defaults: [gemma-3-1b, _self_]\nname: mine\nlocal: {window: 256}\n"
    )
    assert archlab_command("sweep", "--config-dir", "own", "model=mine", "model.mlp.d_ff=64,128", *QUIET).code == 0
    frame = points(tmp_path)
    assert frame["point"].tolist() == ["mine d_ff=64", "mine d_ff=128"] and set(frame["window"]) == {256}
    own = archlab.load(tmp_path / "own" / "model" / "mine.yaml")
    assert own.layer("local").residuals[0].block.window == 256


def test_models_and_workloads_of_the_users_own_folder(archlab_command, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(tmp_path / "own"))
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "workload").mkdir()
    (tmp_path / "own" / "hardware").mkdir()
    (tmp_path / "own" / "model" / "mine.yaml").write_text(
        "defaults: [gemma-3-1b, _self_]\nname: mine\nmlp: {d_ff: 64}\n"
    )
    (tmp_path / "own" / "workload" / "w1k.yaml").write_text("name: w1k\ncontext: 1k\n")
    device = (
        "name: d\ntitle: D\nkind: gpu\nmemory_bytes: 8 GiB\nbandwidth_bytes_per_s: 1e11\npeak_flops: {bf16: 1e13}\n"
    )
    (tmp_path / "own" / "hardware" / "d.yaml").write_text(device + "status: unverified\nsource: mine\n")
    assert "mine" in archlab_command("models").out
    words = ["model=mine", "workload=w1k", "hardware=d", "model.local.window=128,512"]
    done = archlab_command("sweep", *words, *QUIET)
    assert done.code == 0, done.err
    frame = points(tmp_path)
    assert set(frame["context"]) == {1024} and set(frame["d_ff"]) == {64} and set(frame["hardware"]) == {"d"}
    (tmp_path / "own" / "model" / "mine.yaml").write_text(
        "defaults: [gemma-3-1b, _self_]\nname: mine\nmlp: {d_ff: 32}\n"
    )
    assert archlab.load("mine").data["mlp"]["d_ff"] == 32  # no stale copy
    (tmp_path / "own" / "model" / "gemma-2b.yaml").write_text("defaults: [gemma-7b, _self_]\n")
    assert "has the name of a shipped model" in archlab_command("describe", "gemma-2b").err


@pytest.mark.slow
def test_a_model_given_as_a_file(archlab_command, tmp_path):
    archlab_command("new", "tiny", "--from", "gemma-3-1b")
    words = ["model=tiny.yaml,gemma-3-1b", "model.local.window=128,512", "hardware=l4"]
    assert archlab_command("sweep", *words, *QUIET).code == 0
    frame = points(tmp_path)
    assert (
        set(frame["base"]) == {"tiny", "gemma-3-1b"} and (tmp_path / "run" / "conf" / "model" / "tiny.yaml").is_file()
    )
    by_base = frame.groupby("base")["params"].unique()
    assert by_base["tiny"].tolist() == by_base["gemma-3-1b"].tolist()
    assert archlab_command("report", "run").code == 0


def test_one_loader_reads_a_model_for_the_sweep_too(archlab_command, tmp_path):
    """What describe refuses, a sweep over the same file refuses."""
    (tmp_path / "cfg" / "model").mkdir(parents=True)
    for text, sentence in (
        ("defaults: [_self_, gemma-3-1b]\nname: odd\n", "defaults must be [MODEL, _self_]"),
        ("defaults: [gemma-3-1b, _self_]\nname: odd\nattention: {window: 5}\n", "would not reach the local layers"),
    ):
        (tmp_path / "cfg" / "model" / "odd.yaml").write_text(text)
        assert sentence in archlab_command("describe", "cfg/model/odd.yaml").err
        done = archlab_command("sweep", "--config-dir", "cfg", "model=odd", *QUIET)
        assert done.code == 2 and sentence in done.err


@pytest.mark.slow
def test_tokens_are_read_wherever_a_context_stands(archlab_command, tmp_path):
    assert archlab_command("sweep", "attention_heads", "workload.context=4k", *QUIET).code == 0
    frame = points(tmp_path)
    assert set(frame["context"]) == {4096} and "chat-8k context=4096" in set(frame["workload"])
    study = yaml.safe_load((data_dir("sweeps") / "window.yaml").read_text())
    study["grid"] = {"workload.context": ["1k", 2048], "model.local.window": [128, 512]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    assert archlab_command("sweep", "mine.yaml", "measure=never", "out=run2").code == 0
    assert set(pd.read_parquet(tmp_path / "run2" / "points.parquet")["context"]) == {1024, 2048}


def test_an_axis_with_null_and_a_word(archlab_command, tmp_path):
    words = ["model=gemma-3-270m", "model.local.window=null,512,many", "hardware=l4"]
    assert archlab_command("sweep", *words, *QUIET).code == 0
    frame = points(tmp_path)
    assert frame["status"].tolist() == ["ok", "ok", "refused"]
    assert len(points(tmp_path, "layers")) == 2 * 18


def test_a_study_of_ones_own(archlab_command, tmp_path):
    study = yaml.safe_load((data_dir("sweeps") / "window.yaml").read_text()) | {
        "base": ["gemma-3-1b"],
        "hardware": ["l4"],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    assert archlab_command("sweep", "mine.yaml", *QUIET).code == 0
    assert set(points(tmp_path)["base"]) == {"gemma-3-1b"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"base": ["gemma-9"]}, "unknown model 'gemma-9'"),
        ({"hardware": ["h20"]}, "unknown device 'h20'"),
        ({"workloads": ["chat"]}, "unknown workload 'chat'; did you mean 'chat-8k'?"),
        ({"grid": {"model.window": [1]}}, "unknown key model.window"),
        ({"grid": {"model.local.window": 3}}, "must be a table of key: [values]"),
        ({"hold": "memories"}, "hold='memories' must be params, flops, kv_cache, memory or null"),
        ({"holds": "params"}, "unknown key holds; did you mean 'hold'?"),
        ({"on_cpu": {"bases": ["gemma-3-1b"]}}, "unknown key on_cpu.bases"),
    ],
)
def test_a_study_that_cannot_be(change, sentence, archlab_command, tmp_path):
    study = yaml.safe_load((data_dir("sweeps") / "window.yaml").read_text()) | change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    done = archlab_command("sweep", "mine.yaml", *QUIET)
    assert done.code == 2 and sentence in done.err and len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_held_flops_give_a_point_one_shape_at_all_workloads(archlab_command, tmp_path):
    assert archlab_command("sweep", "attention_heads", "hold=flops", *QUIET).code == 0
    frame = points(tmp_path)
    assert (frame.groupby("point")["d_ff"].nunique() == 1).all()
    held = frame[frame["workload"] == "chat-8k"]["flops_prefill"]
    assert held.max() / held.min() < 1.002


@pytest.mark.slow
def test_a_large_block_keeps_its_d_ff(archlab_command, tmp_path):
    words = ["model=gemma-2-9b", "model.local.window=range(1,2501)", "model.attention.n_kv_heads=1,8", "hold=params"]
    assert archlab_command("sweep", *words, "hardware=l4", *QUIET).code == 0
    frame = points(tmp_path)
    assert len(frame) == 5000 and frame["d_ff"].nunique() == 2


def test_a_kind_of_ones_own_is_an_axis(archlab_command, tmp_path):
    archlab_command("new", "own", "--from", "gemma-3-1b")
    text = (
        (tmp_path / "own.yaml")
        .read_text()
        .replace("[local*5, global]", "[wide*5, global]")
        .replace("\nlocal:", "\nwide:")
    )
    (tmp_path / "own.yaml").write_text(text)
    assert archlab_command("sweep", "model=own.yaml", "model.wide.window=128,256", "hardware=l4", *QUIET).code == 0
    assert points(tmp_path)["window"].tolist() == [128, 256]


def test_a_gpu_times_the_runs_own_points(archlab_command, tmp_path, monkeypatch):
    """What the command line made of the study is what is timed: models of files, changed keys, axes, workloads."""
    import torch

    timed = {}

    def measure_points(models, workloads, budget_seconds, raw, sampled):
        assert sampled  # a large model is timed by some of its layers
        timed.update(models=dict(models), workloads=dict(workloads))
        for name, spec in models:
            where = {"workload": workloads[0][0], "batch": 3, "context": 512, "device": "a GPU", "dtype": "bf16"}
            yield {"point": name, "base": spec.name, **where, "phase": "decode", "median_s": None, "status": "skipped"}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("archlab.measure.points.measure_points", measure_points)
    archlab_command("new", "tiny", "--from", "gemma-3-270m")
    words = [
        "model=tiny.yaml",
        "model.attention.n_kv_heads=1,2",
        "model.n_layers=6",
        "workload=short-512",
        "workload.batch=3",
    ]
    done = archlab_command("sweep", "attention_heads", *words, "out=run")
    assert done.code == 0, done.err
    assert [s.n_layers for s in timed["models"].values()] == [6, 6]
    frame = points(tmp_path).drop_duplicates("point")
    assert list(timed["models"]) == frame["point"].tolist()
    assert [s.data["mlp"]["d_ff"] for s in timed["models"].values()] == frame["d_ff"].tolist()
    (work,) = timed["workloads"].values()
    assert (work.batch, work.context) == (3, 512)
    assert points(tmp_path, "measured")["model.attention.n_kv_heads"].tolist() == [1, 2]


@pytest.mark.parametrize("models", ["gemma-3-270m,recurrentgemma-2b", "recurrentgemma-2b,gemma-3-270m"])
def test_a_condition_on_what_one_model_lacks_excludes_it(archlab_command, models):
    condition = "kv_recurrent_bytes > 0 or params < 1"
    words = [f"model={models}", "model.mlp.d_ff=512,1024", f"where='{condition}'", "measure=never", "out=run"]
    done = archlab_command("sweep", *words)
    assert done.code == 0, done.err
    frame = pd.read_parquet("run/points.parquet").set_index("point")
    assert {(row.base, row.status) for row in frame.itertuples()} == {
        ("gemma-3-270m", "excluded"), ("recurrentgemma-2b", "ok"),
    }  # fmt: skip
    assert set(frame["reason"].dropna()) == {f"does not meet `{condition}`; kv_recurrent_bytes is absent here"}
    done = archlab_command("sweep", *words[:2], "where=kv_recurent_bytes > 0", "out=other")
    assert done.code == 2 and "did you mean 'kv_recurrent_bytes'?" in done.err


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("where=window <= 2048", "'window' is written beside a point, not calculated"),
        ("objectives=max d_model", "'d_model' is written beside a point, not calculated"),
        ("model.local.window=[]", "model.local.window has no values"),
        ("model.local.window=range(5,5)", "model.local.window has no values"),
        ("workload.context=[]", "workload.context has no values"),
        ("model.local.windw=5", "unknown key model.local.windw; did you mean 'model.local.window'?"),
        ("model.local.windw=5,6", "unknown key model.local.windw; did you mean 'model.local.window'?"),
        ("model.local.window=-1", "model.local.window=-1 must be a whole number of 1 or more"),
    ],
)
def test_a_key_is_named_as_it_was_typed(word, says):
    with pytest.raises(SpecError) as told:
        prepare(["model=gemma-3-1b", "model.mlp.d_ff=4096,8192", word])
    assert says in str(told.value)


def test_an_axis_is_a_column_by_its_last_word():
    assert prepare(["model=gemma-3-1b", "model.local.window=512,4096", "where=window <= 2048"]).points == 2


def test_what_a_row_says_beside_its_columns_is_known():
    assert {*describe_point(archlab.load("gemma-3-1b"))} <= {*DESCRIBED}


@pytest.mark.parametrize("word", ['where=x == "a"', "where='x > 1'", "where=x in ['a', 'b']"])
def test_quotes_within_a_condition_stay(word):
    assert text_of(word) == {"'": "x > 1"}.get(word[6], word[6:])
