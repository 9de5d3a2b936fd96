"""Checkpoints and configurations to and from places that do not do: one sentence, and nothing left half-written."""

import json
from pathlib import Path

import pytest
import tiny_hf as tiny
import torch

import archlab
from archlab.errors import ArchlabError
from archlab.hf import files
from archlab.hf import weights as module


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return archlab.build(archlab.hf.import_config(tiny.config_of("gemma2").to_dict()))


def sentence(call, *words) -> str:
    with pytest.raises(ArchlabError) as caught:
        call(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


PLACES = {
    "a file": ("file", "it is a file, and a folder is needed"),
    "below a file": ("file/x", "cannot be written: not a directory"),
    "below a file, one file": ("file/x.safetensors", "cannot be written: not a directory"),
    "no such folder": ("nowhere/a.safetensors", "cannot be written: no such file or directory"),
    "a folder called so": ("folder.safetensors", "cannot be written: is a directory"),
    "a name too long": ("x" * 300, "cannot be written: file name too long"),
    "a system's folder": ("/proc/x", "cannot be written: no such file or directory"),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_that_take_no_weights(case, tmp_path, model):
    place, reason = PLACES[case]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.safetensors").mkdir()
    before = below(tmp_path)
    assert reason in sentence(archlab.hf.export_weights, model, tmp_path / place)
    assert below(tmp_path) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["new/folder", "a.safetensors"])
def test_a_full_disk_leaves_nothing(name, tmp_path, model, monkeypatch):
    """safetensors has an error of its own for it."""
    import safetensors.torch

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    assert "no space left on device" in sentence(archlab.hf.export_weights, model, tmp_path / name)
    assert below(tmp_path) == []


def test_a_shard_that_fails_leaves_the_earlier_export(tmp_path, model, monkeypatch):
    import safetensors.torch

    archlab.hf.export_weights(model, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in below(tmp_path)}
    monkeypatch.setattr(module, "SHARD_BYTES", 40_000)
    save, calls = safetensors.torch.save_file, []

    def fails_later(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        save(*args, **options)

    monkeypatch.setattr(safetensors.torch, "save_file", fails_later)
    assert "no space left" in sentence(archlab.hf.export_weights, model, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in below(tmp_path)} == before
    monkeypatch.setattr(safetensors.torch, "save_file", save)
    archlab.hf.export_weights(model, tmp_path)
    assert "model.safetensors" not in below(tmp_path)
    monkeypatch.setattr(module, "SHARD_BYTES", 10**9)
    archlab.hf.export_weights(model, tmp_path)
    assert "model.safetensors.index.json" not in below(tmp_path)


def test_a_folder_in_the_way_of_one_file_stops_all(tmp_path, model):
    (tmp_path / "config.json").mkdir()
    assert "config.json cannot be written: is a directory" in sentence(archlab.hf.export_weights, model, tmp_path)
    assert below(tmp_path) == ["config.json"]


def test_files_are_all_renamed_or_none(tmp_path):
    def fails(path):
        raise OSError("odd")

    for write, reason in ((fails, "b cannot be written: odd"), (lambda path: path.write_text("b"), None)):
        call = {tmp_path / "a": lambda path: path.write_text("a"), tmp_path / "b": write}
        if reason:
            assert reason in sentence(files.write_whole, call)
        else:
            files.write_whole(call)
        assert below(tmp_path) == ([] if reason else ["a", "b"])


@pytest.mark.parametrize("bad", [None, 3, [], [1], b"x", "a\0b"], ids=repr)
def test_what_is_no_path(bad, model):
    assert "must be a path" in sentence(archlab.hf.import_config, bad)
    assert "must be a path" in sentence(archlab.hf.load_weights, model, bad)
    if bad is not None:
        assert "must be a path" in sentence(archlab.hf.export_weights, model, bad)
        assert "must be a path" in sentence(archlab.hf.export_config, model.spec, bad)
    if not isinstance(bad, str):
        assert "a model is a name or a path" in sentence(archlab.load, bad)


FIRST = "model.layers.0.mlp.up_proj.weight"
NO_NUMBERS = {
    "int8": (lambda t: t.to(torch.int8), rf"{FIRST} holds int8, and weights are floating-point numbers"),
    "complex": (lambda t: t.to(torch.complex64), rf"{FIRST} holds complex64"),
    "bool": (lambda t: t > 0, rf"{FIRST} holds bool"),
    "meta": (lambda t: t.to("meta"), rf"{FIRST} of the state dict stands on meta"),
    "sparse": (lambda t: t.to_sparse(), rf"{FIRST} of the state dict is sparse"),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_tensors_that_are_no_weights(case, tmp_path, model):
    change, reason = NO_NUMBERS[case]
    before = {key: t.clone() for key, t in model.state_dict().items()}
    state = archlab.hf.export_weights(model)
    state[FIRST] = change(state[FIRST])
    assert reason in sentence(archlab.hf.load_weights, model, state)
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())


@pytest.mark.parametrize("dtype, name", [(torch.int8, "i8"), (torch.uint8, "u8"), (torch.bool, "bool")])
def test_files_of_other_numbers(dtype, name, tmp_path, model):
    from safetensors.torch import save_file

    state = archlab.hf.export_weights(model)
    save_file(state | {FIRST: state[FIRST].to(dtype)}, tmp_path / "x.safetensors")
    assert f"{FIRST} holds {name}, and" in sentence(archlab.hf.load_weights, model, tmp_path / "x.safetensors")
    for real in (torch.float64, torch.float16, torch.bfloat16):
        save_file({key: t.to(real) for key, t in state.items()}, tmp_path / "x.safetensors")
        archlab.hf.load_weights(model, tmp_path / "x.safetensors")


def test_a_key_that_is_no_name(model):
    assert "3 is a key of the state dict" in sentence(archlab.hf.load_weights, model, {3: torch.ones(1)})


def test_a_model_on_meta_is_not_written(tmp_path, model):
    there = archlab.build(model.spec, device="meta")
    assert "has no weights to write" in sentence(archlab.hf.export_weights, there, tmp_path / "x")
    assert below(tmp_path) == []


# ---------------------------------------------------------------- a folder by its plain name


def test_the_readme_s_export_loads_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = archlab.load("gemma-3-270m", {"n_layers": 1, "vocab_size": 64, "d_model": 16, "mlp.d_ff": 32})
    archlab.hf.export_weights(archlab.build(spec), "swept-0.1b")
    assert archlab.load("swept-0.1b").name == "swept-0.1b"
    assert archlab.load(Path("swept-0.1b")).stacks == spec.stacks


def test_a_preset_s_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("gemma-2b", "empty"):
        (tmp_path / name).mkdir()
    archlab.hf.export_config(archlab.load("gemma-3-270m"), tmp_path / "gemma-2b" / "config.json")
    assert archlab.load("gemma-2b").family == "gemma"
    assert archlab.load("./gemma-2b").family == "gemma3"
    assert "unknown model 'empty'" in sentence(archlab.load, "empty")
    assert "unknown model" in sentence(archlab.load, "x" * 300)


def test_a_written_config_is_json(tmp_path):
    config = archlab.hf.export_config(archlab.load("gemma-3-270m"), tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == config
