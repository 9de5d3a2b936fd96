"""The walks of docs/tour.md: each command prints the lines that stand below it, in their order."""

import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest

TOUR = (Path(__file__).parents[2] / "docs" / "tour.md").read_text()
SLOW = ("archlab check", "archlab explore", "archlab sweep", "-o compare.html")


def shown():
    """(command, lines below it) of each console block."""
    for block in re.findall(r"^```console\n(.*?)^```", TOUR, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        for i, line in enumerate(lines):
            if line.startswith("$ "):
                below = [*takewhile(lambda x: not x.startswith("$ "), lines[i + 1 :])]
                marks = [pytest.mark.slow] * any(word in line for word in SLOW)
                yield pytest.param(line[2:], below, marks=marks, id=line[2:60])


@pytest.mark.parametrize(("command", "below"), [*shown()])
def test_a_command_prints_what_it_is_said_to(command, below, archlab_command):
    done = archlab_command(*shlex.split(command)[1:])
    assert done.code in (0, 1) and "Traceback" not in done.err
    left = (done.err + done.out).splitlines()
    for line in below:
        if line != "...":
            assert line in left, f"{line!r} is not below what stands before it"
            left = left[left.index(line) + 1 :]


def test_what_does_not_fit_is_said_by_the_exit_code(archlab_command):
    assert archlab_command("fit", "gemma-3-27b", "--hardware", "rtx-4090", "--context", "32k").code == 1


def test_each_tag_of_a_report_is_explained():
    from archlab.report import parts

    tags = {
        parts.CALCULATED,
        parts.BOUND,
        parts.MEASURED,
        parts.ESTIMATE,
        parts.PREDICTED,
        parts.EXTRAPOLATED,
        parts.GIVEN,
    }
    assert tags == set(re.findall(r"^\| (\w+) \| (?!the number)", TOUR, re.MULTILINE))
