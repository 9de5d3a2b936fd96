"""Mutated config.json documents of every family: the outcome is a spec or one sentence, and it comes at once."""

import copy
import gc
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import archlab
from archlab.errors import ArchlabError
from archlab.hf.families import READERS

FOLDER = Path(__file__).parent / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
DEEP: list = []
for _ in range(40):
    DEEP = [DEEP]
ODD = [
    None, True, False, 0, 1, -1, 2, 3, 7, 50_000, 100_000, 100_001, 10**7, 3 * 10**9, 10**15, 10**20, 10**400, 0.5, 1.0, -0.5,
    1e20, 1e308, float("inf"), float("nan"), "", "x", "sliding_attention", "\n", "9" * 5000, [], [1], [[]], ["x"],
    ["full_attention"], [3, 3], {}, {"x": 1}, {"0": {}}, {"²": {}}, {"9" * 5000: {}}, {"sliding_attention": []},
    {"sliding_attention": "x"}, {"full_attention": {"rope_type": []}}, {"rope_type": {}}, {"type": 3}, DEEP,
]  # fmt: skip
SECOND = 1.0


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values in a document."""
    for key, below in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(below, dict | list):
            yield from places(below, (*path, key))


def replaced(document: dict, path: tuple, value: Any) -> dict:
    changed = copy.deepcopy(document)
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


def check(document: dict) -> None:
    gc.freeze()  # what other tests left is not looked through while this one is timed
    start = time.process_time()
    try:
        archlab.hf.import_config(document)
    except ArchlabError as problem:
        assert "\n" not in str(problem)
        assert len(str(problem)) < 600
    finally:
        gc.unfreeze()
    assert time.process_time() - start < SECOND


def mutated(document: dict, source: random.Random) -> dict:
    """One to three values replaced, taken away or put in."""
    for _ in range(source.choice([1, 1, 1, 2, 3])):
        path = source.choice(list(places(document)))
        document = replaced(document, path, source.choice(ODD))
        if source.random() < 0.1 and isinstance(path[-1], str):
            at: Any = document
            for key in path[:-1]:
                at = at[key]
            del at[path[-1]]
        if not document:
            break
    return document


def sample(name: str, times: int, seed: int) -> None:
    document = json.loads((FOLDER / f"{name}.json").read_text())
    source = random.Random(f"{name} {seed}")
    for _ in range(times):
        changed = mutated(document, source)
        try:
            check(changed)
        except Exception as problem:
            problem.add_note(json.dumps(changed, default=str)[:3000] if not _huge(changed) else "a huge number")
            raise


def _huge(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_huge(v) for v in values) or (isinstance(value, int) and value > 10**300)


FAMILIES = {json.loads((FOLDER / f"{name}.json").read_text())["model_type"]: name for name in reversed(NAMES)}
"""model_type -> a released config of it."""


@pytest.mark.parametrize("name", FAMILIES.values())
def test_mutated_documents(name):
    sample(name, 150, 0)


@pytest.mark.parametrize("model_type", READERS)
def test_each_default_replaced(model_type):
    """Keys that a file leaves out, put in with nonsense: written by transformers, so that all are there."""
    transformers = pytest.importorskip("transformers")
    document = json.loads(json.dumps(transformers.AutoConfig.for_model(model_type).to_dict(), default=str))
    source = random.Random(model_type)
    for path in places(document):
        if not isinstance(path[-1], int):
            check(replaced(document, path, source.choice(ODD)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_value_by_every_oddity(name):
    document = json.loads((FOLDER / f"{name}.json").read_text())
    for path in places(document):
        if not isinstance(path[-1], int) or path[-1] == 0:
            for odd in ODD:
                check(replaced(document, path, odd))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_mutated_documents(name):
    sample(name, 3000, 1)


LAYERS = {
    "gemma-2b": (), "gemma-3-1b": (), "gemma-4-26b-a4b": ("text_config",), "gemma-3n-e2b": ("text_config",), "gemma-3-4b": ("vision_config",),
    "recurrentgemma-2b": (), "t5gemma-2b-2b": ("decoder",), "gemma-4-e2b": ("text_config",),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("count", [99_999, 100_001, 5 * 10**7, 3 * 10**9, 10**20, 1e20], ids=str)
def test_numbers_of_layers(name, count):
    document = json.loads((FOLDER / f"{name}.json").read_text())
    inner = document
    for key in LAYERS[name]:
        inner = inner[key]
    inner |= {"num_hidden_layers": count, "intermediate_size": 8192}
    for key in ("layer_types", "activation_sparsity_pattern"):
        inner.pop(key, None)
    check(document)
    if count > 100_000:
        with pytest.raises(ArchlabError, match=r"num_hidden_layers=.* must be a whole number of 1 or more, .*100,000"):
            archlab.hf.import_config(document)


CASES = {
    "a list for a kind's RoPE": ("gemma-4-e2b", ("text_config", "rope_parameters", "sliding_attention"), [1], "must be a mapping of keys"),
    "a text for a kind's RoPE": ("gemma-4-e2b", ("text_config", "rope_parameters", "sliding_attention"), "x", "must be a mapping of keys"),
    "a mapping for heads": ("gemma-4-e2b", ("audio_config", "num_attention_heads"), {}, "audio_config.num_attention_heads={} must be"),
    "one channel for two": ("gemma-4-e2b", ("audio_config", "subsampling_conv_channels"), [1], "must be a list of two"),
    "pruned heads": ("gemma-2b", ("pruned_heads",), {"0": [1]}, 'pruned_heads={"0": [1]} cannot be described'),
    "cross-attention": ("gemma-2b", ("add_cross_attention",), True, "add_cross_attention=true cannot be described"),
    "quantized": ("gemma-3-4b", ("quantization_config",), {"bits": 4}, 'quantization_config={"bits": 4} cannot be described'),
    "quantized inside": ("gemma-3-4b", ("text_config", "quantization_config"), {"bits": 4}, "text_config.quantization_config="),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_found_by_review(case):
    name, path, value, reason = CASES[case]
    document = json.loads((FOLDER / f"{name}.json").read_text())
    with pytest.raises(ArchlabError) as caught:
        archlab.hf.import_config(replaced(document, path, value))
    assert reason in str(caught.value)


@pytest.mark.parametrize("neutral", [None, {}, [], False], ids=str)
@pytest.mark.parametrize("key", ["pruned_heads", "add_cross_attention", "quantization_config", "tie_encoder_decoder"])
def test_what_is_neutral_is_let_pass(key, neutral):
    document = json.loads((FOLDER / "gemma-2b.json").read_text())
    assert archlab.hf.import_config({**document, key: neutral}).stacks == archlab.load("gemma-2b").stacks
