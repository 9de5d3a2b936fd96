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
    assert found["llama_cpp"]["options"]["n_seq"]["default"] is None
    for name, engine in found.items():
        assert all(name in load_precision(p).engines for p in engine["precisions"])
        assert all(option["doc"] and option["takes"] for option in engine["options"].values())
