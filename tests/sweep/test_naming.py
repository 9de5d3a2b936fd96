"""What a model is called: by its `name:`, else by its file, whichever command it is given to."""

import json
import shlex

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

import archlab
from archlab.sweep.naming import escaped, literal

SMALL = "defaults: [gemma-3-270m, _self_]\nmlp: {d_ff: 512}\n"
FILES = {"spoken.yaml": "name: Small, by 4 (new)\n" + SMALL, "deep/spoken.yaml": SMALL, "null.yaml": SMALL}
NAMES = {"spoken.yaml": "Small, by 4 (new)", "deep/spoken.yaml": "spoken", "null.yaml": "null"}
"""A name that Hydra's grammar cannot read, that of a file of the same stem, and one that the grammar reads as nothing."""

STUDY = {
    "question": "Which?",
    "base": [*FILES],
    "grid": {"model.attention.n_kv_heads": [1, 2]},
    "workloads": ["short-512"],
    "hardware": ["l4"],
    "measure": "never",
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files, in the folder that the command runs in; of a sweep the tables, its page is others' to test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("archlab.sweep.gather._render", lambda folder: folder / "report.html")
    (tmp_path / "deep").mkdir()
    for path, text in FILES.items():
        (tmp_path / path).write_text(text)
    return tmp_path


def test_the_api_and_the_commands_of_one_screen(files, archlab_command):
    assert {path: archlab.load(path).name for path in FILES} == NAMES
    for path, name in NAMES.items():
        assert json.loads(archlab_command("describe", path, "--json").out)["name"] == name
    for words, key in ((["compare"], "name"), (["fit", "--hardware", "l4"], "model")):
        found = json.loads(archlab_command(*words, *FILES, "--json").out)
        assert [record[key] for record in found] == [*NAMES.values()]


def test_a_sweep_and_its_command(files, archlab_command):
    words = ["sweep", f"model={','.join(FILES)}", "model.attention.n_kv_heads=1,2", "hardware=l4", "out=run"]
    done = archlab_command(*words)
    assert done.code == 0, done.err
    frame = pd.read_parquet("run/points.parquet")
    assert list(dict.fromkeys(frame["base"])) == [*NAMES.values()] and set(frame["status"]) == {"ok"}
    own = {path: archlab.params(archlab.load(path, {"attention.n_kv_heads": 2})).total for path in FILES}
    assert frame[frame["n_kv_heads"] == 2]["params"].tolist() == [*own.values()]
    run = json.loads((files / "run" / "run.json").read_text())
    assert run["bases"] == [d["name"] for d in run["diagrams"]] == [*NAMES.values()]
    assert run["provenance"]["command"] == shlex.join(["archlab", *words])
    assert run["unreleased"] == [*NAMES.values()]


def test_a_model_of_ones_own_is_nowhere_called_released(tmp_path, archlab_command):
    (tmp_path / "mine.yaml").write_text(SMALL)
    grid = ["model.attention.n_kv_heads=1,2", "model.local.window=256,512", "hardware=l4", "measure=never", "out=run"]
    assert archlab_command("sweep", "model=mine.yaml", *grid).code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    shown = page[page.index("<h1") : page.index('<script type="application/json"')]
    assert "released" not in shown and "the original shape" in shown and "as in the file" in shown


@pytest.mark.slow
def test_a_study_and_a_search(files, archlab_command):
    pytest.importorskip("optuna")
    space = {"space": {"base": [*FILES], "model.attention.n_kv_heads": [1, 2]}}
    (files / "study.yaml").write_text(yaml.safe_dump(STUDY | {"search": space}))
    assert archlab_command("sweep", "study.yaml", "out=run").code == 0
    swept = pd.read_parquet("run/points.parquet").drop_duplicates("point")
    assert archlab_command("search", "study.yaml", "-o", "found").code == 0
    tried = pd.read_parquet("found/trials.parquet")
    assert set(swept["base"]) == set(tried["base"]) == set(NAMES.values())
    by = ["base", "n_kv_heads"]
    shapes = tried.rename(columns={"model.attention.n_kv_heads": "n_kv_heads"}).set_index(by)["params"].sort_index()
    assert shapes.to_dict() == swept.set_index(by)["params"].sort_index().to_dict()


def test_a_config_json_and_its_folder(files, archlab_command):
    folder = files / "of-2.5b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(archlab.hf.export_config(archlab.load("gemma-3-270m"))))
    for n, word in enumerate(("of-2.5b", "of-2.5b/config.json")):
        assert archlab_command("sweep", f"model={word}", "hardware=l4", f"out=run{n}").code == 0
        assert set(pd.read_parquet(f"run{n}/points.parquet")["base"]) == {archlab.load(word).name} == {"of-2.5b"}


@pytest.mark.parametrize("command", ["compare", "explore", "fit", "sweep", "search"])
def test_two_models_of_one_name_are_refused_everywhere(command, files, archlab_command):
    for path in ("one.yaml", "two.yaml"):
        (files / path).write_text(f"name: twin\n{SMALL}")
    (files / "study.yaml").write_text(
        yaml.safe_dump(STUDY | {"base": ["one.yaml"], "search": {"space": {"base": ["one.yaml", "two.yaml"]}}})
    )
    words = {
        "fit": ["one.yaml", "two.yaml", "--hardware", "l4"],
        "sweep": ["model=one.yaml,two.yaml"],
        "search": ["study.yaml"],
    }.get(command, ["one.yaml", "two.yaml"])
    done = archlab_command(command, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err == "archlab: one.yaml and two.yaml are both called twin; each model needs a name of its own\n"


def test_a_file_that_is_called_as_a_known_model_cannot_be_swept(files, archlab_command):
    (files / "mine.yaml").write_text("name: gemma-2b\n" + SMALL)
    (files / "gemma-2b.yaml").write_text(SMALL)
    for path in ("mine.yaml", "gemma-2b.yaml"):
        done = archlab_command("sweep", f"model={path}", "out=run")
        assert done.code == 2 and not (files / "run").exists()
        assert done.err == f"archlab: {path} is called gemma-2b, as a model that is there already; change its name\n"


def test_a_model_of_the_users_folder_that_says_no_name(files, archlab_command, monkeypatch):
    (files / "own" / "model").mkdir(parents=True)
    (files / "own" / "model" / "quiet.yaml").write_text(SMALL)
    assert archlab_command("sweep", "--config-dir", "own", "model=quiet", "hardware=l4", "out=run0").code == 0
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(files / "own"))
    assert archlab.load("quiet").name == "quiet"
    assert archlab_command("sweep", "model=quiet", "hardware=l4", "out=run1").code == 0
    for out in ("run0", "run1"):
        assert set(pd.read_parquet(f"{out}/points.parquet")["base"]) == {"quiet"}


@pytest.mark.parametrize(("name", "says"), [('"a\\nb"', "must be one line"), ('"a\\tb"', "must be one line")])
def test_a_name_that_cannot_be_is_one_sentence(files, archlab_command, name, says):
    (files / "odd.yaml").write_text(f"name: {name}\n{SMALL}")
    done = archlab_command("sweep", "model=odd.yaml", "model.mlp.d_ff=512,1024", "out=run")
    assert done.code == 2 and says in done.err and len(done.err.strip().splitlines()) == 1
    assert not (files / "run").exists()


@pytest.mark.parametrize("name", ['a "quoted" {b} ${c}', "${", r"a \${b}"])
def test_a_name_is_shown_as_it_is(files, archlab_command, name):
    (files / "odd.yaml").write_text(yaml.safe_dump({"name": name, "notes": "costs ${x"}) + SMALL)
    done = archlab_command("sweep", "model=odd.yaml", "model.mlp.d_ff=512,1024", "hardware=l4", "out=run")
    assert done.code == 0, done.err
    assert set(pd.read_parquet("run/points.parquet")["base"]) == {name}


@pytest.mark.parametrize("text", ["a ${b}", "${", r"\${b}", r"\\${b", r"\ ${a} \\", "plain", "$${a}"])
def test_what_is_escaped_is_read_as_it_was(text):
    keys = {"name": text, "more": [{"notes": text}]}
    assert OmegaConf.to_container(OmegaConf.create(escaped(keys)), resolve=True) == keys == literal(escaped(keys))
