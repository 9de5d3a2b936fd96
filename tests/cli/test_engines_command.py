"""archlab engines: on a screen of 80 columns, and as JSON."""

import json

from archlab.engines import ENGINES
from archlab.precision import load_precision


def test_engines_are_listed_with_their_options(archlab_command):
    done = archlab_command("engines")
    assert done.code == 0 and done.err == "" and "\033" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    for name in (*ENGINES, "max_num_batched_tokens", "n_ubatch", "swa_full", "static"):
        assert name in done.out


def test_engines_as_json(archlab_command):
    found = {e["name"]: e for e in json.loads(archlab_command("engines", "--json").out)}
    assert list(found) == list(ENGINES)
    assert found["vllm"]["options"]["block_size"]["default"] == 16
    assert found["vllm"]["options"]["max_num_batched_tokens"]["default"] is None
    assert found["llama_cpp"]["options"]["n_seq"]["default"] is None
    for name, engine in found.items():
        assert all(name in load_precision(p).engines for p in engine["precisions"])
        assert all(option["doc"] and option["takes"] for option in engine["options"].values())


def test_an_option_is_refused_as_one_says_it(archlab_command):
    words = ["fit", "gemma-3-1b", "--hardware", "l4", "--engine", "vllm", "--engine-option"]
    for option, sentence in {
        "blocksize=32": "unknown option blocksize of engine vllm; did you mean 'block_size'?",
        "block_size=17": "block_size=17 of engine vllm must be a multiple of 16; 16 or 32 would do",
        "block_size=0": "block_size=0 of engine vllm must be a whole number",
    }.items():
        refused = archlab_command(*words, option)
        assert refused.code == 2 and sentence in refused.err and refused.err.count("\n") == 1


def test_an_engine_in_capitals_is_found(archlab_command):
    refused = archlab_command("fit", "gemma-3-1b", "--hardware", "l4", "--engine", "VLLM")
    assert refused.code == 2 and "did you mean 'vllm'" in refused.err
