"""The device file of a calibrated device is found by what torch calls it, and read once."""

import os

import pytest
import yaml

from archlab import hardware, yamlfile
from archlab.hardware import calibrated
from archlab.paths import data_dir

EPYC = data_dir("conf") / "hardware" / "amd-epyc-2t.yaml"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of the user's own: writes it, with changes to its calibration."""
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(tmp_path))
    path = tmp_path / "hardware" / "mine.yaml"
    path.parent.mkdir()
    data = yamlfile.read(EPYC) | {"name": "mine"}
    kept = dict(data["measured"])

    def write(device, **changes):
        number_format = next(iter(kept))
        data["measured"] = {number_format: {**kept[number_format], "device": device}}
        path.write_text(yaml.safe_dump(data | changes))
        return number_format

    return write


def test_a_file_is_found_by_its_device_and_format(own):
    number_format = own("Mine 1")
    assert calibrated("Mine 1", number_format).name == "mine"
    assert calibrated("Mine 1", "fp8") is calibrated("Mine 2", number_format) is None
    shipped = hardware.load_hardware("amd-epyc-2t")
    assert calibrated(shipped.measured[number_format].device, number_format) == shipped


def test_it_is_read_once_and_again_when_it_has_changed(own, monkeypatch):
    number_format = own("Mine 1")
    found = calibrated("Mine 1", number_format)
    with monkeypatch.context() as closed:
        closed.setattr(yamlfile, "read", lambda path: pytest.fail(f"{path} is read again"))
        assert calibrated("Mine 1", number_format) is found
    own("Mine 22")
    assert calibrated("Mine 1", number_format) is None and calibrated("Mine 22", number_format).name == "mine"


def test_one_of_the_same_length_is_read_again_too(own, tmp_path):
    number_format = own("Mine 1")
    assert calibrated("Mine 1", number_format)
    own("Mine 2")
    os.utime(tmp_path / "hardware" / "mine.yaml", ns=(1, 1))  # whatever the resolution of its clock
    assert calibrated("Mine 1", number_format) is None


def test_one_that_is_wrong_is_passed_over(own):
    number_format = own("Mine 1", memory_bytes=-1)
    assert calibrated("Mine 1", number_format) is None
