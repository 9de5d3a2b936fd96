"""The command line, run in this process and in a folder of its own; which of the slow tests CI leaves to make test-all."""

from collections import Counter
from dataclasses import dataclass

import pytest

from archlab.cli.main import main

THINNED = {
    "contract/test_audit.py": 4,
    "contract/test_rows_and_modules.py": 4,
    "hf/test_hf_nonsense.py": 4,
    "memory/test_activations.py": 3,
    "memory/test_tracker.py": 3,
    "parity/test_gemma3n.py": 5,
    "parity/test_gemma4.py": 8,
    "parity/test_images.py": 5,
    "parity/test_recurrentgemma.py": 5,
    "property/test_kernels.py": 3,
}
"""Of the slow tests of these files, many alike, `make test-slow` runs every n-th, `make test-all` every one."""


def pytest_collection_modifyitems(items):
    """Marks as `exhaustive` what is left to make test-all."""
    seen = Counter()
    for item in items:
        name = next((n for n in THINNED if item.nodeid.split("::")[0].endswith(n)), None)
        if name is not None and item.get_closest_marker("slow"):
            if seen[name] % THINNED[name]:
                item.add_marker(pytest.mark.exhaustive)
            seen[name] += 1


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def archlab_command(capsys, monkeypatch, tmp_path):
    """archlab_command("describe", "gemma-2b") -> Done, in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        try:
            main(list(words))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
