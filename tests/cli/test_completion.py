"""What TAB offers in bash and zsh, asked as their scripts ask, and that asking starts nothing heavy."""

import subprocess
import sys

import pytest

import archlab
from archlab.cli.main import app
from archlab.engines import ENGINES
from archlab.hardware import hardware_names
from archlab.precision import precision_names


@pytest.fixture
def offered(capsys, monkeypatch):
    """offered(_ARCHLAB_COMPLETE="complete_bash", ...) -> what the command prints for a shell with these variables."""

    def ask(**variables: str) -> str:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            app(args=[], prog_name="archlab")
        return capsys.readouterr().out

    return ask


@pytest.fixture
def tab(offered):
    """tab("archlab describe gem") -> what is offered for its last word; words as bash cuts them, apart by spaces."""

    def ask(line: str) -> list[str]:
        place = str(len(line.split(" ")) - 1)
        return offered(_ARCHLAB_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place).split()

    return ask


@pytest.mark.parametrize("command", ["describe", "compare gemma-2b", "check", "fit", "measure", "tornado", "nearest", "explore",
                                     "new mine --from"])  # fmt: skip
def test_models(tab, command):
    assert tab(f"archlab {command} ") == sorted(archlab.models())
    assert tab(f"archlab {command} gemma-2-") == ["gemma-2-27b", "gemma-2-2b", "gemma-2-9b"]


def test_names_of_the_other_groups(tab):
    fit = "archlab fit gemma-2b"
    assert set(tab(f"{fit} --hardware ")) == set(tab("archlab hardware ")) == set(hardware_names())
    assert set(tab(f"{fit} --precision ")) == set(precision_names())
    assert set(tab(f"{fit} --engine ")) == set(ENGINES)
    assert "q8_0" in tab(f"{fit} --kv q8")
    assert "chat-8k" in tab("archlab tornado gemma-2b --workload ch")


def test_studies(tab):
    assert tab("archlab sweep win") == tab("archlab search win") == ["window"]


def test_after_a_comma_and_not_twice(tab):
    assert tab("archlab fit gemma-2b --hardware l40s,l4") == ["l40s,l4", "l40s,l40"]


@pytest.mark.parametrize("command", ["sweep window", "search window"])
def test_values_of_a_sweeps_groups(tab, command):
    assert tab(f"archlab {command} hardware = l40") == ["l40", "l40s"]
    assert set(tab(f"archlab {command} engine =")) == set(ENGINES)
    assert tab(f"archlab {command} hardware=l4,l40") == ["hardware=l4,l40", "hardware=l4,l40s"]
    assert tab(f"archlab {command} model.local.window = 5") == []


def test_options_are_offered_still(tab):
    assert tab("archlab sweep --js") == ["--json"]


def test_models_of_the_user_are_offered(tab, monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [gemma-2b, _self_]\n")
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(tmp_path))
    assert tab("archlab describe mi") == ["mine"]
    (tmp_path / "model" / "gemma-2b.yaml").write_text("")
    assert tab("archlab describe mi") == []


def test_zsh_gets_the_word_whole(offered):
    said = offered(_ARCHLAB_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="archlab sweep window hardware=l40")
    assert '"hardware=l40s"' in said


def test_asking_starts_nothing_heavy():
    script = (
        "import os, sys\n"
        "os.environ.update(_ARCHLAB_COMPLETE='complete_bash', COMP_WORDS='archlab fit gemma-2b --engine ', COMP_CWORD='4')\n"
        "sys.argv = ['archlab']\n"
        "from archlab.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "vllm" in done.stdout.split()
    assert not set(done.stderr.split()) & {"torch", "numpy", "pandas", "plotly", "hydra", "sympy", "fvcore"}
