"""archlab check MODEL --memory, on the screen and as JSON."""

import json

import pytest

from archlab.blocks import MLP

SMALL = ["gemma-3-270m", "n_layers=6", "vocab_size=4096", "--memory"]


@pytest.mark.slow
def test_a_screen_and_a_document(archlab_command):
    screen = archlab_command("check", *SMALL, "--context", "256", "--batch", "2")
    assert screen.code == 0 and screen.err == "" and "\033" not in screen.out
    assert "3 of 3 within 10%" in screen.out and "256 tokens x 2" in screen.out and "all 6 layers run" in screen.out
    done = archlab_command("check", *SMALL, "--context", "256", "--batch", "2", "--json")
    document = json.loads(done.out)
    assert done.code == 0 and document["ok"] is True and document["batch"] == 2
    for step in document["steps"]:
        assert step["total"] == sum(step["by_category"].values()) and abs(step["error"]) < 0.1


def test_few_layers_are_said_to_stand_for_all(archlab_command):
    words = ["gemma-2b", "n_layers=30", "vocab_size=4096", "--memory", "--context", "64"]
    assert "extrapolated to 30 layers from 3" in archlab_command("check", *words).out


def test_rows_that_are_off_fail(archlab_command, monkeypatch):
    """An MLP whose rows save nothing and whose activations nobody reads."""
    right = MLP.ops
    monkeypatch.setattr(MLP, "ops", lambda self: [*right(self)][:1])
    done = archlab_command("check", *SMALL, "--context", "2k")
    assert done.code == 1 and "OFF" in done.out


@pytest.mark.parametrize("words", [["--context", "0"], ["--context", "many"], ["--batch", "0"]])
def test_bad_sizes_are_refused(words, archlab_command):
    assert archlab_command("check", *SMALL, *words).code == 2
