"""The wheel, installed in an environment of its own, away from the checkout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel_python(tmp_path_factory) -> Path:
    """The interpreter of a clean environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("archlab-*.whl")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*install, "torch"], check=True)
    subprocess.run([*install, wheel], check=True)
    return python


@pytest.mark.slow
def test_describe_sweep_and_report_run_from_the_wheel(wheel_python, tmp_path):
    def archlab(*words: str) -> str:
        command = [wheel_python.parent / "archlab", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert json.loads(archlab("describe", "gemma-2-9b", "--json"))["params"] == 9_241_705_984
    report = Path(archlab("sweep", "window", "measure=never", "out=run").strip())
    assert (tmp_path / report).stat().st_size > 100_000
    again = json.loads(archlab("report", "run", "-o", "again.html", "--json"))["report"]
    assert (tmp_path / again).read_bytes() == (tmp_path / report).read_bytes()


@pytest.mark.slow
def test_archlab_is_all_that_becomes_importable(wheel_python, tmp_path):
    script = "import importlib.util as u; print([n for n in ('archlab', 'conf', 'sweeps', 'reports', 'tests') if u.find_spec(n)])"
    done = subprocess.run([wheel_python, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['archlab']"
