"""archlab fit: the ledger, the table, what the API says, and sentences for what cannot be."""

import json

import pytest

import archlab
from archlab.analyzers.fit import workload

FIT = ["fit", "gemma-3-27b-text", "--hardware", "h100-sxm", "--context", "32k", "--engine", "vllm"]


def test_the_ledger_of_one(archlab_command):
    screen = archlab_command(*FIT, "--precision", "fp8")
    assert screen.code == 0 and screen.err == "" and "fits" in screen.out.splitlines()[1]
    for word in (
        "weights",
        "cache",
        "activations",
        "runtime",
        "needed",
        "reserved",
        "longest context",
        "largest batch",
    ):
        assert word in screen.out
    document = json.loads(archlab_command(*FIT, "--precision", "fp8", "--json").out)
    spec = archlab.load("gemma-3-27b-text")
    found = archlab.memory(spec, workload(spec, 1, 32768), "h100-sxm", "fp8", "vllm")
    assert document["needed_bytes"] == found.needed == sum(document["by_part"].values())
    assert document["reserved_bytes"] == found.reserved > found.needed
    assert document["needed_bytes"] == sum(i["bytes"] for i in document["items"] if i["on"] == "device")
    assert all(i["formula"] and i["source"] and i["basis"] for i in document["items"])


def test_what_does_not_fit_ends_in_1_and_says_what_would(archlab_command):
    screen = archlab_command("fit", "gemma-3-27b-text", "--hardware", "rtx-4090")
    assert screen.code == 1 and "does not fit" in screen.out and "would fit with one of" in screen.out
    document = json.loads(archlab_command("fit", "gemma-3-27b-text", "--hardware", "rtx-4090", "--json").out)
    assert document["verdict"] == "no" and document["remedies"]
    for remedy in document["remedies"]:
        again = archlab_command("fit", "gemma-3-27b-text", "--hardware", "rtx-4090", *remedy["words"].split(), "--json")
        found = json.loads(again.out)
        assert again.code == 0 and found["needed_bytes"] == remedy["needed"]


def test_a_table_of_several(archlab_command):
    words = ["fit", "gemma-3-1b", "gemma-3-12b-text", "--hardware", "t4,rtx-4090,m4-16", "--precision", "fp16"]
    screen = archlab_command(*words)
    assert screen.code == 1 and len(screen.out.splitlines()) == 8
    found = json.loads(archlab_command(*words, "--json").out)
    assert [(f["model"], f["hardware"]) for f in found][:2] == [("gemma-3-1b", "t4"), ("gemma-3-1b", "rtx-4090")]


def test_a_longest_context_is_the_longest(archlab_command):
    words = ["fit", "gemma-2-9b", "--hardware", "rtx-4090", "--precision", "int4", "--engine", "vllm"]
    most = json.loads(archlab_command(*words, "--json").out)["max_context"]
    assert archlab_command(*words, "--context", str(most)).code == 0
    over = archlab_command(*words, "--context", str(most + 1))
    assert over.code == 1 and "trained for" in over.err


@pytest.mark.parametrize(
    "words",
    [
        ["--train"], ["--train", "--training-option", "lora_rank=16", "--precision", "nf4-dq", "--engine", "hf"],
        ["--tp", "2"], ["--tp", "2", "--pp", "2", "--engine", "vllm"], ["--cp", "2"],
        ["--engine", "llama_cpp", "--precision", "q4_k_m", "--batch", "4", "--engine-option", "unified=true"],
        ["--engine", "hf", "--engine-option", "static=false"], ["--kv", "fp8"], ["--capacity", "20 GiB"],
        ["attention.n_kv_heads=1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_options(words, archlab_command):
    asked = ["fit", "gemma-3-4b", "--hardware", "h100-sxm", "--context", "2k", *words]
    screen, document = archlab_command(*asked), archlab_command(*asked, "--json")
    assert screen.code in (0, 1) and document.code == screen.code and json.loads(document.out)["needed_bytes"] > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "fit needs --hardware"),
        (["--hardware", "h100"], "did you mean 'h100-"),
        (["--hardware", "t4", "--engine", "vlm"], "did you mean 'vllm'"),
        (["--hardware", "t4", "--precision", "q4_k"], "did you mean 'q4_k_"),
        (["--hardware", "t4", "--precision", "int4", "--engine", "llama_cpp"], "llama_cpp cannot run precision int4"),
        (["--hardware", "t4", "--tp", "3"], "tp"),
        (["--hardware", "t4", "--engine-option", "chunks=3"], "did you mean 'chunk'"),
        (["--hardware", "t4", "--engine-option", "chunk"], "must be key=value"),
        (["--hardware", "t4", "--engine-option", "chunk=many"], "must be a whole number"),
        (["--hardware", "t4", "--kv", "fp7"], "did you mean 'fp"),
        (["--hardware", "t4", "--context", "0"], "must be a whole number of 1 or more"),
        (["--hardware", "t4", "--context", "many"], "write it as 8192 or 8k"),
        (["--hardware", "t4", "--capacity", "20"], "write it as 20 GiB"),
        (["--hardware", "t4", "--training-option", "optimiser=adam", "--train"], "did you mean 'optimizer'"),
        (["--hardware", "t4", "--engine", "vllm", "--train"], "does not train"),
        (["--hardware", "t4", "--engine", "vllm", "--engine-option", "gpu_memory_utilization=1.5"], "at most 1"),
    ],
)  # fmt: skip
def test_nonsense_gets_a_sentence(words, sentence, archlab_command):
    done = archlab_command("fit", "gemma-3-4b", *words)
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1 and done.out == ""


def test_pictures_reach_the_workload(archlab_command):
    words = ["fit", "gemma-3-4b", "--hardware", "l4", "--context", "300", "--json"]
    without, beside = (json.loads(archlab_command(*words, "--images", n).out)["needed_bytes"] for n in ("0", "1"))
    spec = archlab.load("gemma-3-4b")
    own = archlab.memory(spec, archlab.Workload(new=300, context=300, images=1), "l4").needed
    assert beside == own > without
    assert "has no vision tower" in archlab_command("fit", "gemma-3-1b", "--hardware", "l4", "--images", "1").err
