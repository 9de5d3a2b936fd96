"""Does it fit, over many points: engines as a group, memory and limits as columns, the study end to end."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

import archlab
from archlab.analyzers.fit import workload
from archlab.engines import ENGINES
from archlab.errors import ArchlabError
from archlab.fields import fields_of
from archlab.hardware import load_hardware
from archlab.paths import data_dir
from archlab.sweep.argv import prepare
from archlab.sweep.measures import MEMORY_PARTS

QUIET = ["measure=never", "out=run"]
CUT = ["model=gemma-3-1b,gemma-2-9b", "hardware=t4,rtx-4090,m4-16"]


def points(folder, name="run"):
    return pd.read_parquet(folder / name / "points.parquet")


@pytest.mark.parametrize("name", ENGINES)
def test_the_files_of_engines_are_their_defaults(name):
    """So that Hydra knows each option, and engine=vllm means what archlab fit --engine vllm does."""
    keys = yaml.safe_load((data_dir("conf") / "engine" / f"{name}.yaml").read_text())
    defaults = {key: getattr(ENGINES[name](), key) for key in fields_of(ENGINES[name])}
    assert keys == {"name": name} | defaults and list(keys) == ["name", *defaults]


def test_each_engine_has_a_file():
    assert sorted(p.stem for p in (data_dir("conf") / "engine").glob("*.yaml")) == sorted(ENGINES)


@pytest.mark.slow
def test_a_cut_of_the_study(archlab_command, tmp_path):
    done = archlab_command("sweep", "fit_matrix", *CUT, *QUIET)
    assert done.code == 0, done.err
    frame = points(tmp_path)
    assert len(frame) == 2 * 3 * 2 * 3 and set(frame["status"]) == {"ok"} and set(frame["engine"]) == {"llama_cpp"}
    for row in frame.to_dict("records"):
        spec, context = archlab.load(row["base"]), int(row["context"])
        asked = {"hardware": row["hardware"], "precision": row["precision"], "engine": "llama_cpp"}
        found = archlab.fit(spec, context=context, **asked)
        assert (row["memory_bytes"], row["memory_budget_bytes"]) == (found.memory.needed, found.memory.budget)
        assert (row["max_context"], row["max_batch"], row["fits"]) == (found.max_context, found.max_batch, found.fits)
        assert sum(row[f"memory_{part}_bytes"] for part in MEMORY_PARTS) == row["memory_bytes"]
        assert row["kv_cache_bytes"] == row["memory_kv_cache_bytes"] == found.memory.by_part["kv_cache"]
    bounds = frame.groupby(["hardware", "precision"])["decode_bound_s"].count()
    assert bounds["t4", "bf16"] == 0 and bounds["t4", "q4_k_m"] == 6  # it has no bf16 rate, and its memory stands
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["hardware"]["m4-16"]["available_bytes"] == load_hardware("m4-16").available_bytes
    assert run["engines"]["llama_cpp"]["options"]["n_ubatch"] == 512
    assert "Does it fit" in (tmp_path / "run" / "report.html").read_text()


def test_devices_are_no_jobs_of_hydras():
    command = prepare(["study=fit_matrix", "model=gemma-3-1b", "precision=bf16"])
    assert command.settings["hardware"] == "hardware=jetson-orin-nano-8"
    assert command.settings["devices"].startswith("devices=['jetson-orin-nano-8','rtx-3060-12'")
    assert "-m" not in command.flags


def test_what_is_changed_of_a_device_is_changed_of_each(archlab_command, tmp_path):
    words = ["model=gemma-3-1b", "hardware=l4,t4", "precision=fp16", "hardware.usable_bytes=1GiB"]
    assert archlab_command("sweep", *words, *QUIET).code == 0
    frame = points(tmp_path)
    assert set(frame["memory_budget_bytes"]) == {2**30} and set(frame["fits"]) == {False}
    assert set(frame["hardware"]) == {"l4 usable_bytes=1GiB", "t4 usable_bytes=1GiB"}


def test_an_engine_and_its_options(archlab_command, tmp_path):
    words = ["model=gemma-3-4b", "hardware=l4", "engine=llama_cpp"]
    assert archlab_command("sweep", *words, "engine.n_ubatch=256", *QUIET).code == 0
    row = points(tmp_path).iloc[0]
    spec = archlab.load("gemma-3-4b")
    expected = archlab.kv_cache(spec, 8192, engine="llama_cpp", n_ubatch=256).total
    assert row["engine"] == "llama_cpp n_ubatch=256" and row["kv_cache_bytes"] == expected
    assert expected < archlab.kv_cache(spec, 8192, engine="llama_cpp").total
    assert "max_context" not in row  # not asked


def test_several_engines(archlab_command, tmp_path):
    words = ["model=gemma-3-4b", "hardware=l4", "engine=ideal,hf,vllm,llama_cpp", "limits=true"]
    assert archlab_command("sweep", *words, *QUIET).code == 0
    frame = points(tmp_path).set_index("engine")
    assert list(frame.index) == ["ideal", "hf", "vllm", "llama_cpp"] and (frame["status"] == "ok").all()
    assert (frame["kv_cache_bytes"] >= frame.loc["ideal", "kv_cache_bytes"]).all()


@pytest.mark.slow
def test_an_engine_that_cannot_run_a_precision_refuses_it(archlab_command, tmp_path):
    words = ["model=gemma-3-1b", "hardware=l4", "engine=vllm,llama_cpp", "precision=q4_k_m,bf16"]
    assert archlab_command("sweep", *words, *QUIET).code == 0
    frame = points(tmp_path).set_index(["engine", "precision"])
    assert frame["status"].to_dict() == {
        ("vllm", "q4_k_m"): "refused", ("llama_cpp", "q4_k_m"): "ok", ("vllm", "bf16"): "ok", ("llama_cpp", "bf16"): "ok",
    }  # fmt: skip
    assert frame.loc[("vllm", "q4_k_m"), "reason"].startswith("engine vllm cannot run precision q4_k_m (")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["engine=lama_cpp"], "unknown engine 'lama_cpp'; did you mean 'llama_cpp'?"),
        (["engine=llama_cpp", "engine.n_ubtch=256"], "unknown key engine.n_ubtch; did you mean 'n_ubatch'?"),
        (["engine.n_ubatch=256"], "unknown key engine.n_ubatch"),
        (["engine=llama_cpp", "engine.n_ubatch=none"], "n_ubatch='none' of engine llama_cpp must be a whole number"),
        (["limits=yes"], "limits='yes' must be one of true, false"),
    ],
)
def test_what_cannot_be_is_a_sentence(archlab_command, words, says):
    done = archlab_command("sweep", "model=gemma-3-1b", *words, *QUIET)
    assert done.code != 0 and says in done.err and "Traceback" not in done.err


# ---------------------------------------------------------------- evaluate

PAIRS = [("ideal", "bf16"), ("hf", "bf16"), ("vllm", "bf16"), ("llama_cpp", "q4_k_m")]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "precision"), PAIRS)
@pytest.mark.parametrize("model", ["gemma-3-4b", "gemma-3n-e2b", "gemma-4-26b-a4b", "t5gemma-2-270m-270m"])
def test_columns_are_the_numbers_of_each_point(model, engine, precision):
    """Memory, the longest context and the largest batch, on axes and as linked columns."""
    spec, at = archlab.load(model), {"hardware": "rtx-4090", "precision": precision, "engine": engine}
    batches, contexts = [1, 3], [100, 8192, 40_000]
    grid = {"workload.batch": batches, "workload.context": contexts}
    points = archlab.evaluate(spec, workload(spec, 1, 8192), grid=grid, limits=True, **at)
    linked = {"workload.batch": [b for b in batches for _ in contexts], "workload.context": contexts * 2}
    columns = archlab.evaluate(spec, workload(spec, 1, 8192), columns=linked, limits=True, **at)
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            found = archlab.fit(spec, batch=batch, context=context, **at)
            one = {
                "memory_bytes": found.memory.needed, "memory_reserved_bytes": found.memory.reserved,
                "memory_budget_bytes": found.memory.budget, "fits": found.fits,
                "max_context": found.max_context, "max_batch": found.max_batch,
            }  # fmt: skip
            assert {k: points[k][i, j] for k in one} == one
            assert {k: columns[k][3 * i + j] for k in one} == one


def test_memory_on_a_mesh_of_shapes():
    spec, work = archlab.load("gemma-2-9b"), archlab.Workload(new=8192, logits="last")
    grid = {"attention.n_kv_heads": [1, 4, 16], "mlp.d_ff": [8192, 16384]}
    for engine, precision in PAIRS:
        points = archlab.evaluate(spec, work, "l4", precision, grid=grid, engine=engine, memory=True)
        for place in np.ndindex(*points.shape):
            one = archlab.memory(archlab.load("gemma-2-9b", points.at(place)), work, "l4", precision, engine)
            assert points["memory_bytes"][place] == one.needed and points["fits"][place] == one.fits


def test_what_an_engine_refuses_is_masked():
    spec, at = archlab.load("gemma-3-1b"), {"hardware": "l4", "memory": True}
    engine = ENGINES["vllm"](max_model_len=4096)
    points = archlab.evaluate(spec, workload(spec, 1, 64), grid={"workload.context": [64, 8192]}, engine=engine, **at)
    assert points.ok.tolist() == [True, False] and "max_model_len" in points.reason((1,))


def test_memory_needs_a_device_and_an_engine_that_runs_the_precision():
    spec, work = archlab.load("gemma-3-1b"), archlab.Workload(new=64, logits="last")
    with pytest.raises(ArchlabError, match="memory and limits need hardware"):
        archlab.evaluate(spec, work, limits=True)
    with pytest.raises(ArchlabError, match="engine hf cannot run precision q4_k_m"):
        archlab.evaluate(spec, work, "l4", "q4_k_m", engine="hf", memory=True)
    with pytest.raises(ArchlabError, match="t4 has no bf16 rate"):
        archlab.evaluate(spec, work, "t4", memory=True)
    assert "decode_bound_s" not in archlab.evaluate(spec, work, "t4", limits=True).columns
