"""Each command, on the screen and as JSON."""

import json
from pathlib import Path

import pytest

import archlab
from archlab.cli.compare import spoken

FP8 = ["--precision", "fp8"]


@pytest.mark.parametrize(
    "words",
    [
        ["models"],
        ["hardware"],
        ["hardware", "h200-sxm"],
        ["describe", "gemma-2-9b"],
        ["describe", "gemma-3-1b", "local.window=128", "pattern=[local*3,global]"],
        ["compare", "gemma-2-2b", "gemma-3-1b", "vaultgemma-1b"],
        ["check", "gemma-3-270m", "--context", "64"],
    ],
    ids=" ".join,
)
def test_a_screen_and_a_document(words, archlab_command):
    screen = archlab_command(*words)
    assert screen.code == 0 and screen.err == "" and "\033" not in screen.out
    document = archlab_command(*words, "--json")
    assert document.code == 0 and json.loads(document.out)


@pytest.mark.parametrize(
    "words", [["models"], ["describe", "gemma-3-27b-text"], ["compare", "gemma-2-9b", "gemma-3-12b-text"]]
)
def test_a_screen_is_80_columns_wide(words, archlab_command):
    assert max(map(len, archlab_command(*words).out.splitlines())) <= 80


def test_describe_says_what_the_api_says(archlab_command):
    facts = json.loads(archlab_command("describe", "gemma-3-27b-text", "local.window=512", "--json").out)
    spec = archlab.load("gemma-3-27b-text", {"local.window": 512})
    assert facts["params"] == archlab.params(spec).total
    for at in facts["at_context"]:
        assert at["kv_cache_bytes_bf16"] == archlab.kv_cache(spec, at["context"]).total
        step = archlab.Workload(new=1, context=at["context"])
        assert at["flops_per_token"] == archlab.flops(spec, step).total


@pytest.mark.parametrize("name", archlab.models())
def test_new_writes_a_file_that_is_the_same_model(name, archlab_command, tmp_path):
    done = archlab_command("new", "mine", "--from", name)
    assert done.code == 0 and done.out.strip() == "mine.yaml"
    mine, base = archlab.load(tmp_path / "mine.yaml"), archlab.load(name)
    assert mine.decoder == base.decoder and mine.context == base.context and mine.name == "mine"
    again = archlab_command("new", "mine", "--from", name)
    assert again.code == 2 and "mine.yaml exists" in again.err


def test_check_fails_with_exit_code_1_when_a_form_is_wrong(archlab_command, monkeypatch):
    from archlab.blocks import MLP
    from archlab.rows import matmul

    right = MLP.ops
    monkeypatch.setattr(MLP, "ops", lambda self: [*right(self), matmul("x BTD, w.up FD -> u BTF")])
    done = archlab_command("check", "gemma-3-270m", "--context", "64")
    assert done.code == 1 and "DIFFERS" in done.out


def test_a_comparison_is_a_report(archlab_command, tmp_path):
    words = ["compare", "gemma-2-9b", "gemma-3-12b-text", "-o", "x.html", "--hardware", "l4"]
    done = archlab_command(*words)
    assert done.code == 0 and done.out.strip() == "x.html"
    page = (tmp_path / "x.html").read_text()
    assert f"archlab {' '.join(words)}<" in page and "<span>comparison</span>" in page
    assert "gemma-3-12b-text" in page and "http://" not in page.split("<script")[0]
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


def test_a_comparison_names_no_folder_of_the_machine():
    given = {"precision": "fp8"}
    assert spoken(["a", "b"], Path("/home/me/x.html"), given) == ["compare", "a", "b", "-o", "x.html", *FP8]
    assert spoken(["a", "b"], Path("out/x.html"), given) == ["compare", "a", "b", "-o", "out/x.html", *FP8]


def test_an_encoder_alone_decodes_nothing(archlab_command):
    lines = archlab_command("compare", "gemma-2b", "embeddinggemma-300m").out.splitlines()
    assert lines[2].startswith("embeddinggemma-300m ") and lines[2].split()[-3:] == ["-"] * 3
    assert "-" not in lines[1].split()[-3:]
    assert "embeddinggemma-300m: encoder (decodes nothing, keeps no cache)" in lines[5]


@pytest.fixture
def quick_rates(monkeypatch):
    """Rates of small buffers, and timings of a moment: what is said of them is tested, not they."""
    from dataclasses import replace

    from archlab.measure import rooflines, single

    monkeypatch.setattr(rooflines, "BUFFERS", {"cpu": {"quick": (4,)}})
    monkeypatch.setattr(rooflines, "MATRICES", {"cpu": {"quick": (64,)}})
    monkeypatch.setattr(rooflines, "SECONDS", {"quick": 0.01})
    session = single.Session
    monkeypatch.setattr(single, "Session", lambda *args, **more: replace(session(*args, **more), seconds=0.05))


def test_measure_names_the_device_and_the_spread(archlab_command, quick_rates, tmp_path):
    archlab_command("new", "small", "--from", "gemma-3-270m")
    words = [
        "small.yaml",
        "n_layers=2",
        "d_model=64",
        "mlp.d_ff=64",
        "vocab_size=256",
        "--context",
        "16",
        "--phase",
        "decode",
    ]
    (record,) = json.loads(archlab_command("measure", *words, "--json").out)
    assert record["status"] == "ok" and record["p5_s"] <= record["median_s"] <= record["p95_s"]
    assert len(record["samples"]) == record["n"] and record["provenance"]["torch"]
    assert (record["backend"], record["runs"], record["source"]) == ("fast", "TorchScript trace", "measured")


def test_measure_says_what_ran_and_how_far_to_trust_it(archlab_command, quick_rates, monkeypatch):
    monkeypatch.setattr("archlab.measure.sampled.last_cache_bytes", lambda _: 0)
    keys = ["pattern=[local, global]", "d_model=64", "mlp.d_ff=64", "vocab_size=256"]
    words = ["measure", "gemma-3-270m", *keys, "--context", "16", "--phase", "decode", "--sampled"]
    screen = archlab_command(*words, "n_layers=7").out
    assert (
        "; fast, TorchScript trace, SDPA flash; head + 1 and 2 periods of 2 layers, and the 1 layer left over" in screen
    )
    assert "on all 7 layers of gemma-3-270m" in screen and "decode: 95 % of the median" in screen
    screen = archlab_command(*words, "n_layers=3", "--backend", "reference").out
    assert "decode: measured; reference, Python, matrix products and a softmax\n" in screen
    assert "warning: measured whole: gemma-3-270m has 3 layers, too few" in screen


def test_an_unwritable_place_is_one_sentence(archlab_command, tmp_path):
    (tmp_path / "file").write_text("")
    done = archlab_command("compare", "gemma-2b", "gemma-7b", "-o", "file/x.html")
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1
    done = archlab_command("sweep", "window", "measure=never", "out=file")
    assert done.code == 2 and "Traceback" not in done.err


def test_help_names_the_commands(archlab_command):
    done = archlab_command("--help")
    assert done.code == 0
    for command in ("models", "describe", "compare", "check", "measure", "sweep", "report", "hardware", "new"):
        assert command in done.out
