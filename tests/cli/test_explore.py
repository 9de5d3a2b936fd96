"""archlab tornado and archlab nearest, as a person types them."""

import json

import pytest

import archlab


def test_the_largest_change_comes_first(archlab_command):
    done = archlab_command("tornado", "gemma-3-1b", "--hardware", "l4", "--metric", "decode_bound_s")
    lines = done.out.splitlines()
    assert done.code == 0 and lines[0].startswith("decode_bound_s, ")
    changes = [float(line.split("#")[0].split()[-1].rstrip("%")) for line in lines[2:]]
    assert changes == sorted(changes, key=abs, reverse=True) and lines[2].startswith("d_model")


def test_a_tornado_as_json_agrees_with_the_formulas(archlab_command):
    rows = json.loads(archlab_command("tornado", "gemma-3-1b", "--metric", "params", "--json").out)
    row = next(r for r in rows if r["key"] == "n_layers")
    twice = archlab.params(archlab.load("gemma-3-1b", {"n_layers": 52})).total
    assert (row["low"], row["base"], row["high"], row["at_high"]) == (13, 26, 52, twice)


def test_the_nearest_model_of_a_changed_one_is_itself(archlab_command):
    done = archlab_command("nearest", "gemma-2-9b", "n_layers=40", "-k", "1")
    assert done.code == 0 and done.out.splitlines()[1].startswith("gemma-2-9b")
    found = json.loads(archlab_command("nearest", "gemma-2-9b", "--json").out)
    assert found[0]["name"] == "gemma-2-9b" and found[0]["distance"] == 0 and len(found) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tornado", "gemma-3-1b", "--metric", "max_contex"], "max_contex"),
        (["tornado", "gemma-3-1b", "--hardware", "l5"], "unknown device 'l5'"),
        (["tornado", "gemma-3-1c"], "unknown model 'gemma-3-1c'"),
        (["tornado", "gemma-3-1b", "--workload", "chat"], "unknown workload 'chat'"),
        (["nearest", "gemma-2-9b", "n_layer=3"], "unknown key n_layer"),
    ],
)
def test_one_sentence_and_exit_2(words, sentence, archlab_command):
    done = archlab_command(*words)
    assert done.code == 2 and sentence in done.err and len(done.err.strip().splitlines()) == 1
