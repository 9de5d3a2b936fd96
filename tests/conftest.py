"""The command line, run in this process and in a folder of its own."""

from dataclasses import dataclass

import pytest

from archlab.cli.main import main


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
