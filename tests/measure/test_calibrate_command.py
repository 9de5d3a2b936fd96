"""python -m archlab.measure calibrate on a run that is here; what it must not do, and what it says then."""

import json
import shutil
from pathlib import Path

import pytest

from archlab.hardware import load_hardware
from archlab.measure.__main__ import main
from archlab.paths import data_dir

RUN = Path(__file__).parents[2] / "reports" / "measured" / "amd-epyc-2t"
SHEET = Path(data_dir("conf")) / "hardware" / "h100-sxm.yaml"


def test_a_new_device_predicts(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    assert main(["calibrate", str(RUN), "--into", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    block = load_hardware(file).calibration(said["dtype"])
    assert block.error.median == said["error"]["median"] and block.run == RUN.name


def test_a_run_of_another_device_stays_out(tmp_path, capsys):
    file = tmp_path / "h100.yaml"
    shutil.copy(SHEET, file)
    assert main(["calibrate", str(RUN), "--into", str(file)]) == 2
    said = capsys.readouterr().err
    assert "is a gpu, and" in said and "a cpu" in said and file.read_text() == SHEET.read_text()


@pytest.mark.parametrize(
    "block", ["measured: 5", "measured: {fp32: 5}", "measured: {fp32: {attention: {step: null, causal: 5}}}"]
)
def test_a_wrong_block_is_a_sentence(tmp_path, capsys, block):
    file = tmp_path / "wrong.yaml"
    file.write_text(f"{SHEET.read_text()}\n{block}\n")
    assert main(["calibrate", str(RUN), "--into", str(file)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and "measured" in said


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "inf"])
def test_seconds_are_a_time(capsys, seconds):
    assert main(["run", "gemma-3-270m", "--seconds", seconds]) == 2
    assert "--seconds" in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["nan", "-5"])
def test_a_budget_is_a_time(tmp_path, capsys, budget):
    assert main(["suite", "--out", str(tmp_path / "out"), "--budget", budget]) == 2
    assert "--budget" in capsys.readouterr().err and not (tmp_path / "out").exists()
