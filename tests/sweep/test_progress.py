"""Progress on stderr: a terminal sees points, rate, time left and failures; a pipe sees nothing."""

import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest

from archlab.sweep.joblog import JobLog, Reader, open_logs
from archlab.sweep.progress import Tally

WORDS = ["model=gemma-2b", "model.mlp.d_ff=range(64,4096,64)", "hardware=l4,t4", "precision=fp16", "measure=never"]

SLOW = """
import sys
if sys.argv[0] == "-m":
    import time, archlab.sweep.block as block, archlab.sweep.gather as gather
    gather._render = lambda folder: folder / "report.html"
    part = block._part
    def _part(own, *words):
        time.sleep(0.6)
        if own.device.name == "t4":
            raise RuntimeError("no such thing")
        return part(own, *words)
    block._part = _part
"""


def on_a_terminal(command, folder, environment):
    """(exit code, what a terminal got on stderr)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = bytearray()

    def read():
        while True:
            try:
                seen.extend(os.read(ours, 4096) or b"")
            except OSError:  # the other end has closed
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    code = process.wait(timeout=120)
    reader.join(timeout=5)
    os.close(ours)
    return code, re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", bytes(seen)).decode("utf-8", "replace")


@pytest.mark.slow
def test_a_terminal_sees_how_far_it_is(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "TERM": "xterm",
        "COLUMNS": "140",
    }
    command = [sys.executable, "-m", "archlab.sweep", *WORDS]
    code, seen = on_a_terminal([*command, "out=run"], tmp_path, environment)
    assert code == 0, seen
    assert "computing" in seen
    assert re.search(r"63 of 126 points, [1-9][\d,]* a second, \d:\d\d:\d\d left, 1 block failed", seen)
    piped = subprocess.run([*command, "out=piped"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "computing" not in piped.stderr and "a second" not in piped.stderr and "\x1b" not in piped.stderr


def test_a_part_counts_once_and_looking_costs_little(tmp_path):
    """The logs of a thousand jobs that are silent are not read again."""
    logs = open_logs(tmp_path, "abc", {})
    for number in range(1000):
        log = JobLog(logs, number)
        for part in range(5):
            log.path.open("a").write(f'{{"part": "{number}-{part}", "points": 10}}\n')
    log.add({"part": "0-0", "points": 10})
    log.add({"failed": "no"})
    tally = Tally(Reader(logs))
    tally.look()
    assert (tally.points, tally.failed) == (50_000, 1)
    started = time.process_time()
    for _ in range(5):
        tally.look()
    assert (tally.points, tally.failed) == (50_000, 1)
    assert (time.process_time() - started) / 5 < 0.05
