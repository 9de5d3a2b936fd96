"""Checkpoints in and out: the same outputs in transformers and here, strict names and shapes, one tensor at a time."""

import json
import warnings
import weakref

import pytest
import tiny_hf as tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

import archlab
from archlab.errors import ArchlabError
from archlab.hf import weights as module
from archlab.hf.weights import SafeTensors

# no padding token among them: T5Gemma masks it
IDS = torch.randint(1, 90, (2, 17), generator=torch.Generator().manual_seed(0))


def ours_of(theirs: torch.nn.Module, **options) -> torch.nn.Module:
    """Our model of transformers' config, with nothing in its memory yet."""
    return archlab.build(archlab.hf.import_config(theirs.config.to_dict()), init=False, **options)


def loaded(name: str, seed: int = 0) -> tuple[torch.nn.Module, torch.nn.Module]:
    theirs = tiny.model_of(name, seed)
    ours = ours_of(theirs)
    archlab.hf.load_weights(ours, theirs.state_dict())
    return theirs, ours


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.3, "outputs too small to tell anything"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", tiny.CASES)
def test_their_weights_give_their_outputs_here(name):
    theirs, ours = loaded(name)
    close(tiny.outputs(ours, IDS), tiny.outputs(theirs, IDS))


@pytest.mark.parametrize("name", tiny.CASES)
def test_our_weights_give_our_outputs_there(name, tmp_path):
    """A random model of ours, exported; from_pretrained has nothing to complain of, and the file reads back exactly."""
    ours = archlab.build(archlab.hf.import_config(tiny.config_of(name).to_dict()), seed=3)
    written = archlab.hf.export_weights(ours, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    theirs, told = getattr(transformers, tiny.CASES[name][0]).from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(told.values()), told
    assert sum(p.numel() for p in theirs.parameters()) == archlab.params(ours.spec).total
    close(tiny.outputs(theirs.eval(), IDS), tiny.outputs(ours, IDS))
    again = archlab.build(archlab.hf.import_config(tmp_path), init=False)
    archlab.hf.load_weights(again, tmp_path)
    assert torch.equal(tiny.outputs(again, IDS), tiny.outputs(ours, IDS))
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == written.keys()
    assert all(torch.equal(saved[key], written[key]) for key in saved)


AUTO = ("gemma2", "gemma3", "recurrentgemma", "gemma3n", "gemma4-26b-a4b", "vaultgemma")


@pytest.mark.parametrize("name", AUTO)
def test_auto_classes_load_the_folder(name, tmp_path):
    ours = archlab.build(archlab.hf.import_config(tiny.config_of(name).to_dict()), seed=5)
    archlab.hf.export_weights(ours, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert type(theirs).__name__ == tiny.CASES[name][0]
    close(tiny.outputs(theirs, IDS), tiny.outputs(ours, IDS))


# ---------------------------------------------------------------- names that files have

RENAMED = {
    "gemma3-pictures": [
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector", "multi_modal_projector"),
        ("lm_head", "language_model.lm_head"),
    ],
    "paligemma": [
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector", "multi_modal_projector"),
        ("lm_head", "language_model.lm_head"),
    ],
    "t5gemma2": [
        ("encoder.text_model.", "encoder."),
        ("encoder.vision_tower.", "encoder.vision_tower.vision_model."),
    ],
    "gemma2": [("model.", "")],
    "embeddinggemma": [
        ("embed_tokens", "model.embed_tokens"),
        ("layers.", "model.layers."),
        ("norm.weight", "norm.weight"),
    ],
    "gemma3": [("model.", "model.model."), ("lm_head", "model.lm_head")],
}
"""What released files, older versions and wrapping classes call the same tensors."""


@pytest.mark.parametrize("name", RENAMED)
def test_names_of_files_are_understood(name):
    theirs, ours = loaded(name)
    state = {}
    for key, tensor in theirs.state_dict().items():
        for new, old in RENAMED[name]:
            if key.startswith(new) or f".{new}" in key:
                key = key.replace(new, old, 1)
                break
        state[key] = tensor
    assert state.keys() != theirs.state_dict().keys()
    again = ours_of(theirs)
    archlab.hf.load_weights(again, state)
    assert torch.equal(tiny.outputs(again, IDS), tiny.outputs(ours, IDS))


def test_buffers_of_older_versions_are_let_pass():
    theirs, ours = loaded("gemma2")
    state = theirs.state_dict() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    archlab.hf.load_weights(ours, state)


# ---------------------------------------------------------------- files


def test_a_file_a_folder_an_index_and_shards(tmp_path, monkeypatch):
    theirs, ours = loaded("gemma3")
    expected = tiny.outputs(ours, IDS)
    monkeypatch.setattr(module, "SHARD_BYTES", 40_000)
    archlab.hf.export_weights(ours, tmp_path / "shards")
    names = sorted(path.name for path in (tmp_path / "shards").glob("*.safetensors"))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors"
    assert not list(tmp_path.glob("**/.*"))
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "shards", attn_implementation="eager")
    close(tiny.outputs(there, IDS), expected)
    archlab.hf.export_weights(ours, tmp_path / "one.safetensors")
    index = tmp_path / "shards" / "model.safetensors.index.json"
    assert json.loads(index.read_text())["metadata"]["total_size"] == 4 * archlab.params(ours.spec).total
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    for source in (tmp_path / "shards", index, tmp_path / "one.safetensors", str(tmp_path / "theirs")):
        again = ours_of(theirs)
        archlab.hf.load_weights(again, source)
        assert torch.equal(tiny.outputs(again, IDS), expected)


def test_no_more_than_one_tensor_is_held(tmp_path, monkeypatch):
    theirs, ours = loaded("gemma4-26b-a4b")
    archlab.hf.export_weights(ours, tmp_path)
    alive: list[weakref.ref] = []
    read = SafeTensors.read

    def watched(self, name):
        assert not [tensor for tensor in alive if tensor() is not None]
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(SafeTensors, "read", watched)
    archlab.hf.load_weights(ours_of(theirs), tmp_path)
    assert len(alive) == len(load_file(tmp_path / "model.safetensors"))


def test_a_model_keeps_its_own_format():
    theirs, _ = loaded("gemma2")
    ours = ours_of(theirs, dtype=torch.bfloat16)
    archlab.hf.load_weights(ours, theirs.state_dict())
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16}
    assert torch.equal(ours.embedding.table, theirs.model.embed_tokens.weight.bfloat16())


def test_the_folder_says_its_format(tmp_path):
    theirs, _ = loaded("gemma2")
    ours = ours_of(theirs, dtype=torch.bfloat16)
    archlab.hf.load_weights(ours, theirs.state_dict())
    archlab.hf.export_weights(ours, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


# ---------------------------------------------------------------- what is refused, and leaves the model as it was


def broken(state: dict, case: str) -> dict:
    first = "model.layers.0.mlp.up_proj.weight"
    if case == "missing":
        return {key: t for key, t in state.items() if "mlp" not in key}
    if case == "unexpected":
        return state | {f"model.layers.9.mlp.up_proj.{i}": torch.ones(1) for i in range(5)}
    if case == "misspelt":
        return {key.replace("layers.0.mlp.up_proj", "layers.0.mlp.upp_proj"): t for key, t in state.items()}
    if case == "transposed":
        return state | {first: state[first].T}
    if case == "reshaped":
        return state | {first: state[first].reshape(-1)}
    if case == "twice":
        return state | {"layers.0.mlp.up_proj.weight": state[first]}
    if case == "untied":
        return state | {"lm_head.weight": state["lm_head.weight"] + 1}
    return state | {first: [1.0]}


SENTENCES = {
    "missing": r"^the checkpoint lacks 12 tensors of gemma2: model\.layers\.0\.mlp\.gate_proj\.weight, .* and 9 more$",
    "unexpected": r"^the checkpoint has unexpected 5 tensors .*: model\.layers\.9\.mlp\.up_proj\.0, .* and 2 more$",
    "misspelt": r"lacks 1 tensor of .*up_proj.weight; did you mean 'model.layers.0.mlp.upp_proj.weight'\?$",
    "transposed": r"^model\.layers\.0\.mlp\.up_proj\.weight has shape \[48, 80\], but layers\.0\.mlp\.up of gemma2 needs \[80, 48\]$",
    "reshaped": r"has shape \[3840\]",
    "twice": r"^model\.layers\.0\.mlp\.up_proj\.weight and layers\.0\.mlp\.up_proj\.weight are the same tensor",
    "untied": r"^lm_head\.weight differs from embedding\.table, but head\.table is tied to it$",
    "no tensor": r"must be a tensor, not list$",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_a_checkpoint_that_does_not_fit(case):
    theirs = tiny.model_of("gemma2")
    ours = archlab.build(archlab.hf.import_config(theirs.config.to_dict()))
    before = {key: t.clone() for key, t in ours.state_dict().items()}
    with pytest.raises(ArchlabError, match=SENTENCES[case]):
        archlab.hf.load_weights(ours, broken(theirs.state_dict(), case))
    if case != "untied":
        assert all(torch.equal(t, before[key]) for key, t in ours.state_dict().items())


def test_files_that_are_none(tmp_path):
    ours = ours_of(tiny.model_of("gemma2"))
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-1.safetensors"}}')
    (tmp_path / "other.json").write_text("[]")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, sentence in (
        (tmp_path / "nowhere.safetensors", "cannot be read: no such file"),
        (tmp_path / "a.safetensors", "cannot be read as safetensors"),
        (empty, "holds neither model.safetensors nor model.safetensors.index.json"),
        (tmp_path, "names model-1.safetensors, which is not beside it"),
        (tmp_path / "other.json", "is not the index of a sharded checkpoint"),
    ):
        with pytest.raises(ArchlabError, match=sentence) as caught:
            archlab.hf.load_weights(ours, source)
        assert "\n" not in str(caught.value)


def test_models_that_take_no_weights():
    theirs = tiny.model_of("gemma2")
    with pytest.raises(ArchlabError, match="stands on meta"):
        archlab.hf.load_weights(ours_of(theirs, device="meta"), theirs.state_dict())
    with pytest.raises(ArchlabError, match="Linear is not a model"):
        archlab.hf.load_weights(torch.nn.Linear(2, 2), {})
    spec = archlab.load("gemma-3-270m", {"family": "mine", "n_layers": 1, "vocab_size": 16})
    with pytest.raises(ArchlabError, match="family='mine' has no checkpoint format"):
        archlab.hf.load_weights(archlab.build(spec), {})
    spec = archlab.load("gemma-2b", {"attention.qk_norm": True, "n_layers": 1, "vocab_size": 16})
    with pytest.raises(
        ArchlabError, match=r"gemma-2b has no config\.json of family gemma: there attention\.qk_norm is false"
    ):
        archlab.hf.export_weights(archlab.build(spec))


# ---------------------------------------------------------------- weights that a file has and a model has not


def test_keys_and_values_that_nothing_reads():
    """Released 3n and Gemma 4 E files hold them for layers that share: taken, checked, and not loaded."""
    theirs, ours = loaded("gemma4-e2b")
    state = theirs.state_dict()
    assert "model.layers.3.self_attn.k_proj.weight" not in state
    state |= {
        "model.layers.3.self_attn.k_proj.weight": torch.ones(48, 48),
        "model.layers.3.self_attn.v_proj.weight": torch.ones(48, 48),
        "model.layers.3.self_attn.k_norm.weight": torch.ones(24),
    }
    again = ours_of(theirs)
    archlab.hf.load_weights(again, state)
    assert torch.equal(tiny.outputs(again, IDS), tiny.outputs(ours, IDS))
    state["model.layers.3.self_attn.k_proj.weight"] = torch.ones(32, 48)
    with pytest.raises(ArchlabError, match=r"layers\.3\.self_attn\.k_proj\.weight has shape \[32, 48\]"):
        archlab.hf.load_weights(again, state)


def counted() -> tuple[torch.nn.Module, dict]:
    """A Gemma 3n with towers known by number, and a checkpoint of it."""
    theirs, ours = loaded("gemma3n")
    tower = {"tokens": 4, "what": "a tower"}
    data = dict(ours.spec.data)
    data["vision"] = {"counted": {"parameters": 100, "projector": 20, **tower}, "token": 95}
    data["audio"] = {"counted": {"parameters": 7, "projector": 3, **tower}, "token": 94}
    state = {key.replace("model.", "model.language_model.", 1): t for key, t in theirs.state_dict().items()}
    state |= {
        "model.vision_tower.timm_model.stem": torch.ones(10, 10),
        "model.embed_vision.project": torch.ones(20),
        "model.audio_tower.a": torch.ones(7),
        "model.audio_tower.input_max": torch.tensor(1.0),
        "model.embed_audio.b": torch.ones(3),
    }
    return archlab.build(archlab.assemble.resolve(data)), state


def test_towers_that_are_known_by_number():
    _, ours = loaded("gemma3n")
    model, state = counted()
    archlab.hf.load_weights(model, state)
    assert torch.equal(tiny.outputs(model, IDS), tiny.outputs(ours, IDS))
    state["model.vision_tower.timm_model.stem"] = torch.ones(10, 9)
    with pytest.raises(ArchlabError, match="the vision tower of the checkpoint has 110 parameters, gemma3n_text 120"):
        archlab.hf.load_weights(model, state)
    with pytest.raises(ArchlabError, match="its vision tower is known by number alone; take the section vision away"):
        archlab.hf.export_weights(model)


def test_ranges_that_are_not_applied_are_told():
    """Released E2B files clip in their towers; transformers starts without: infinite ranges."""
    theirs, ours = loaded("gemma4-pictures")
    key = "model.vision_tower.encoder.layers.0.self_attn.q_proj.input_max"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        archlab.hf.load_weights(ours, theirs.state_dict() | {key: torch.tensor(float("inf"))})
    with pytest.warns(UserWarning, match="clip what they read"):
        archlab.hf.load_weights(ours, theirs.state_dict() | {key: torch.tensor(3.0)})


def test_a_lazy_file_is_enough(tmp_path):
    """A plain safetensors file of transformers' tensors, tied ones left out as on the Hub."""
    theirs, ours = loaded("gemma2")
    state = {key: t for key, t in theirs.state_dict().items() if key != "lm_head.weight"}
    save_file(state, tmp_path / "x.safetensors")
    again = ours_of(theirs)
    archlab.hf.load_weights(again, tmp_path / "x.safetensors")
    assert torch.equal(tiny.outputs(again, IDS), tiny.outputs(ours, IDS))
