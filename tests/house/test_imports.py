"""Imports run one way, and the command line starts only what it needs."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "archlab"

RANK = {
    "errors": 0, "shown": 0, "notebook": 10, "algebra": 0, "columns": 1, "rows": 1, "units": 1, "paths": 0, "yamlfile": 1, "fields": 1, "layers": 2, "workload": 2, "spec": 2, "blocks": 3, "schema": 4, "assemble": 5,
    "presets": 6, "config": 4, "calibration": 4, "hardware": 6, "efficiency": 6, "text": 6, "evidence": 6, "ledger": 4, "formats": 1, "items": 1, "precision": 5, "parallel": 5, "engines": 6, "analyzers": 6, "nn": 7, "hf": 8, "measure": 8, "sweep": 9, "report": 8, "cli": 10,
    "__main__": 11, "__init__": 11,
}  # fmt: skip
"""A module imports rooms of its own rank or lower; analyzers and blocks do not know each other."""

NEVER = {
    "analyzers": {"blocks", "nn"},
    "blocks": {"analyzers", "nn"},
    "engines": {"blocks", "nn", "analyzers"},
    "parallel": {"blocks", "nn", "analyzers"},
    "report": {"presets", "blocks", "analyzers", "nn", "sweep"},
}
ONLY_IN = {"torch": {"nn", "measure", "sweep/timing.py", "sweep/gpus.py", "hf/weights.py"}, "safetensors": {"hf/weights.py"},
           "huggingface_hub": {"hf/hub.py"}, "transformers": set(), "plotly": {"report"}, "hydra": {"sweep"}, "omegaconf": {"sweep"},
           "pandas": {"sweep", "report"}, "pyarrow": {"sweep", "report"}, "fvcore": {"nn"}, "typer": {"cli"}, "optuna": {"sweep"}}  # fmt: skip

LATE = {"presets": "archlab.hf.configs."}
"""What a lower room may import when a path says so: the reader of a config.json."""

FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def imported(path: Path) -> set[str]:
    """Full names of what a file imports anywhere, TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    """The top folder or file of the package that a file is in; `python -m` entries belong to the command line."""
    if path.name == "__main__.py":
        return "__main__"
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = room(path)
    for name in imported(path):
        if not name.startswith("archlab.") or here == "__init__":
            continue
        there = name.split(".")[1]
        if name.startswith(LATE.get(here, "-")):
            continue
        if there not in RANK:  # `from archlab import __version__`
            continue
        assert RANK[there] <= RANK[here], f"{here} imports {name}"
        assert there not in NEVER.get(here, ()), f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_rooms(path):
    inside = str(path.relative_to(PACKAGE))
    for name in imported(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or room(path) in allowed or inside in allowed, f"{inside} imports {name}"


def started(*code: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after running the code."""
    script = "\n".join([*code, "import sys; print('\\n'.join(sys.modules), file=sys.stderr)"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words", [["describe", "gemma-3-27b-text"], ["models"], ["hardware"], ["compare", "gemma-2b", "gemma-7b"]]
)
def test_light_commands_start_light(words):
    loaded = started("from archlab.cli.main import main", f"try: main({words!r})", "except SystemExit: pass")
    assert not loaded & {"torch", "pandas", "plotly", "hydra", "numpy", "sympy", "fvcore", "rich", "jinja2"}


def test_importing_archlab_costs_nothing():
    assert not started("import archlab") & {"torch", "numpy", "yaml", "archlab.spec"}


def test_the_public_face_is_there():
    import archlab

    for name in dir(archlab):
        assert getattr(archlab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'parms'"):
        archlab.parms  # noqa: B018
