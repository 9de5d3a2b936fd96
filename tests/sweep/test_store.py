"""The store of a sweep: one table whoever reads it, and whole whatever happens to the process, the disk or a file."""

import errno
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import archlab
from archlab.errors import ArchlabError, SpecError
from archlab.sweep import block as block_module
from archlab.sweep import results
from archlab.sweep.joblog import JobLog, Reader, entries, open_logs, whole
from archlab.sweep.writers import is_gone, writer

WORDS = [
    "sweep", "model=gemma-3-1b", "model.attention.n_kv_heads=1,3,4", "workload.context=range(2048,131072,14336)",
    "model.mlp.d_ff=4096,262144", "measure=never", "out=run",
]  # fmt: skip
POINTS = 54


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("archlab.sweep.gather._render", lambda folder: folder / "report.html")


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 9 points: 6 or more of the grid above."""
    monkeypatch.setattr(block_module, "PART", 9)


def parts(folder="run"):
    return sorted(Path(folder, "blocks").glob("*.parquet"))


def table(folder="run"):
    return pd.read_parquet(Path(folder, "points.parquet"))


def strays(folder="run"):
    """Temporary files."""
    return [p for p in Path(folder).rglob(".*") if p.is_file()]


def one_sentence(done):
    return done.code == 2 and len(done.err.strip().splitlines()) == 1 and "Traceback" not in done.err


# ---------------------------------------------------------------- one table


@pytest.mark.slow
def test_all_parts_have_the_same_columns_and_types(archlab_command, small_parts, tmp_path):
    """Some parts hold no refused point, some no number beyond 2**53, some no window: their types are still one."""
    assert archlab_command(*WORDS[:-1], "model.local.window=null,256", "out=run").code == 0
    assert len(parts()) >= 12
    found = [pq.read_schema(p) for p in parts()]
    kinds = {(name, str(kind)) for schema in found for name, kind in zip(schema.names, schema.types, strict=True)}
    assert len(kinds) == len({name for name, _ in kinds})
    assert any(pd.read_parquet(p)["reason"].isna().all() for p in parts())
    schema = max(found, key=len)
    kinds = {
        name: str(schema.field(name).type) for name in ("reason", "status", "params", "fits", "context", "is_base")
    }
    assert kinds == {
        "reason": "string", "status": "string", "params": "double", "fits": "bool", "context": "int64", "is_base": "bool",
    }  # fmt: skip
    assert str(schema.field("model.local.window").type) == "int64"


@pytest.mark.slow
def test_duckdb_and_pandas_read_the_blocks_as_they_are(archlab_command, small_parts, tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    archlab_command(*WORDS)
    rows = duckdb.sql(
        "select count(*), count(reason), max(flops_prefill) from read_parquet('run/blocks/*.parquet', union_by_name = true)"
    ).fetchall()[0]
    frame = pd.concat(map(pd.read_parquet, parts()))
    assert rows == (len(frame), frame["reason"].notna().sum(), frame["flops_prefill"].max())
    assert rows[0] == POINTS == len(table()) and rows[2] > 2**52
    archlab_command("sweep", "model=gemma-2b", "model.mlp.d_ff=range(64,1024,64)", "measure=never", "out=plain")
    assert duckdb.sql("select count(*) from 'plain/blocks/*.parquet' where d_ff is null or fits").fetchall() == [(15,)]


def test_marginals_lie_apart(archlab_command, tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    monkeypatch.setattr("archlab.sweep.argv_sizes.MOST_TABLE", 20)
    assert archlab_command(*WORDS).code == 0
    (own,) = parts()
    assert [p.name for p in Path("run/blocks/marginals").iterdir()] == [own.name]
    assert duckdb.sql("select sum(points) from 'run/blocks/marginals/*.parquet' where key = 'mlp.d_ff'").fetchall()[0][
        0
    ]
    assert len(pd.read_parquet("run/marginals.parquet"))


def test_a_part_says_who_made_it_from_what(archlab_command, tmp_path):
    archlab_command(*WORDS)
    (own,) = parts()
    facts = json.loads(pq.read_schema(own).metadata[b"archlab"])
    (config,) = Path("run/blocks").glob("*.json")
    assert facts["command"] == shlex.join(["archlab", *WORDS])
    assert facts["block"] == config.stem and own.stem.startswith(config.stem)
    assert facts["archlab"] == archlab.__version__ and facts["code"] == json.loads(config.read_text())["code"]
    assert facts["points"] == POINTS and facts["utc"].endswith("Z") and facts["machine"] and facts["schema"]
    assert not {"host", "user", "path"} & set(facts)


# ---------------------------------------------------------------- files that are not whole


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "empty":
        data = b""
    elif how == "truncated":
        data = data[: len(data) // 2]
    elif how == "no parquet":
        data = b"# a note\n" * 50
    else:  # a bit of the first page's data, past its header
        data[400] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.slow
def test_a_damaged_part_is_computed_again_and_no_other(archlab_command, small_parts, tmp_path):
    archlab_command(*WORDS)
    before = table()
    for how in ("empty", "truncated", "no parquet", "a bit"):
        times = {p: p.stat().st_mtime_ns for p in parts()}
        victim = parts()[2]
        damage(victim, how)
        done = archlab_command(*WORDS)
        assert done.code == 0 and "Traceback" not in done.err, how
        pd.testing.assert_frame_equal(table(), before)
        assert {p for p in parts() if p.stat().st_mtime_ns != times[p]} == {victim}, how
        pq.read_table(victim, page_checksum_verification=True)


@pytest.mark.slow
def test_damaged_marginals_are_computed_again(archlab_command, tmp_path, monkeypatch):
    monkeypatch.setattr("archlab.sweep.argv_sizes.MOST_TABLE", 20)
    archlab_command(*WORDS)
    before = pd.read_parquet("run/marginals.parquet")
    (victim,) = Path("run/blocks/marginals").glob("*.parquet")
    for how in ("empty", "truncated", "gone"):
        victim.unlink() if how == "gone" else damage(victim, how)
        assert archlab_command(*WORDS).code == 0
        pd.testing.assert_frame_equal(pd.read_parquet("run/marginals.parquet"), before)


@pytest.mark.slow
def test_a_damaged_configuration_is_written_again(archlab_command, tmp_path):
    archlab_command(*WORDS)
    (config,) = Path("run/blocks").glob("*.json")
    text = config.read_text()
    for wrong in ("", "{"):
        config.write_text(wrong)
        assert archlab_command(*WORDS).code == 0 and config.read_text() == text


def test_shares_of_a_block_leave_the_others_alone(archlab_command, small_parts, tmp_path):
    archlab_command(*WORDS)
    block = block_module.read_block(json.loads(next(Path("run/blocks").glob("*.json")).read_text()))
    names = [e["part"] for e in block_module.run_block(block, Path("run/blocks"))]
    for share in range(3):
        assert [e["part"] for e in block_module.run_block(block, Path("run/blocks"), share, 3)] == names[share::3]
    Path("run/blocks", f"{names[4]}.parquet").unlink()
    fresh = [[e["fresh"] for e in block_module.run_block(block, Path("run/blocks"), share, 3)] for share in range(3)]
    assert sum(map(sum, fresh)) == 1 and fresh[4 % 3][4 // 3]


# ---------------------------------------------------------------- disks that are full, folders that are closed


def failing_writes(monkeypatch, after, error):
    """The table that is written after so many, and those that follow, meet an error halfway."""
    real, done = results.pq.write_table, []

    def write_table(table, where, **more):
        if len(done) >= after:
            Path(where).write_bytes(b"PAR1 half")
            raise error
        done.append(where)
        return real(table, where, **more)

    monkeypatch.setattr(results.pq, "write_table", write_table)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "no space left on device; make room"), (errno.EROFS, "read-only file system; give a folder that can be written to with out=")]
)  # fmt: skip
def test_a_disk_that_is_full_or_closed(number, hint, archlab_command, small_parts, tmp_path, monkeypatch):
    archlab_command(*WORDS[:-1], "out=whole")
    with monkeypatch.context() as patch:
        failing_writes(patch, 3, OSError(number, os.strerror(number)))
        done = archlab_command(*WORDS)
    assert one_sentence(done) and hint in done.err and "run/blocks cannot be written" in done.err
    assert len(parts()) == 3 and strays() == []
    times = {p: p.stat().st_mtime_ns for p in parts()}
    assert archlab_command(*WORDS).code == 0
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
    pd.testing.assert_frame_equal(table(), table("whole"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_small_disk(archlab_command, small_parts, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        done = archlab_command(*WORDS[:-1], "out=disk/run")
        assert one_sentence(done) and "no space left on device" in done.err.lower()
        assert strays("disk/run") == []
        kept = len(parts("disk/run"))
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert archlab_command(*WORDS[:-1], "out=disk/run").code == 0
        assert kept and len(parts("disk/run")) > kept and len(table("disk/run")) == POINTS
    finally:
        subprocess.run(["umount", disk], check=False)


@pytest.mark.parametrize("out", ["taken", "taken/run", "/proc/run"])
def test_a_folder_that_cannot_be(out, archlab_command, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = archlab_command(*WORDS[:-1], f"out={out}")
    assert one_sentence(done) and "cannot be written" in done.err
    assert (tmp_path / "taken").read_text() == "a file"


def test_what_is_stored_stays_when_the_end_fails(archlab_command, tmp_path, monkeypatch):
    """Hours of parts are not taken back for a table of losses that cannot be joined."""
    with monkeypatch.context() as patch:
        patch.setattr("archlab.sweep.gather.join_quality", lambda *_: (_ for _ in ()).throw(SpecError("no")))
        Path("losses.csv").write_text("point,loss\na,1\n")
        assert archlab_command(*WORDS, "quality=losses.csv").code == 2
    assert parts()


# ---------------------------------------------------------------- processes that are killed


def test_an_interrupted_sweep_goes_on(archlab_command, small_parts, tmp_path, monkeypatch):
    archlab_command(*WORDS[:-1], "out=whole")
    for after in (0, 3):
        with monkeypatch.context() as patch:
            failing_writes(patch, after, KeyboardInterrupt())
            assert archlab_command(*WORDS).code != 0
    assert len(parts()) == 3
    assert archlab_command(*WORDS).code == 0
    pd.testing.assert_frame_equal(table(), table("whole"))


def test_what_killed_processes_left_goes_and_what_live_ones_write_stays(archlab_command, tmp_path):
    archlab_command(*WORDS)
    machine = writer().partition("-")[0]
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [Path("run/blocks", f".x.parquet.{machine}-{ended.pid}.ab"), Path("run", f".report.html.{ended.pid}.part")]
    live = [Path("run/blocks/marginals", f".x.parquet.{machine}-{sleeper.pid}.ab"), Path("run/.x.0123abcd-1.zz")]
    live[0].parent.mkdir()
    try:
        for path in (*gone, *live):
            path.write_text("half")
        assert archlab_command(*WORDS).code == 0
        assert not any(p.exists() for p in gone) and all(p.exists() for p in live)
        os.utime(live[1], (1, 1))  # another machine's, long ago
        assert is_gone(live[1])
    finally:
        sleeper.kill()
        sleeper.wait()


MILLION = [
    "model=gemma-2-9b", "model.attention.n_kv_heads=1,2,4,8,16", "model.local.window=range(64,2624,64)",
    "workload.context=range(1024,52224,1024)", "model.mlp.d_ff=range(4096,16896,128)", "measure=never",
]  # fmt: skip


@pytest.mark.slow
def test_a_million_points_killed_again_and_again(tmp_path):
    """Every row once, whenever the process dies: in the start, in a part, in the tables, in the report."""
    command = [sys.executable, "-m", "archlab.sweep", *MILLION]
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    subprocess.run([*command, "out=whole"], check=True, **quiet)
    chance, kills, seen = random.Random(0), 0, []
    for target in (0, 1, 3, 6, 8, 10, 10, 10):  # parts that are stored before it dies
        with subprocess.Popen([*command, "out=run"], **quiet) as process:
            while process.poll() is None and len(parts(tmp_path / "run")) < target:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 3 if target in (0, 10) else 0.3))
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        seen.append(len(parts(tmp_path / "run")))
    assert kills >= 5 and len(set(seen)) >= 4
    done = subprocess.run([*command, "out=run"], check=True, **quiet)
    assert b"Traceback" not in done.stderr
    one, other = table(tmp_path / "run"), table(tmp_path / "whole")
    pd.testing.assert_frame_equal(one, other)
    told = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("run", "whole")]
    assert told[0]["computed"] == told[1]["computed"] == 1_000_000
    frames = [pd.concat(map(pd.read_parquet, parts(tmp_path / name))) for name in ("run", "whole")]
    axes = ["model.attention.n_kv_heads", "model.local.window", "workload.context", "model.mlp.d_ff"]
    assert not frames[0].duplicated(axes).any()
    pd.testing.assert_frame_equal(*(f.sort_values(axes, ignore_index=True) for f in frames))
    assert strays(tmp_path / "run") == []


# ---------------------------------------------------------------- what jobs say


def test_a_log_is_read_as_it_grows(tmp_path):
    logs = open_logs(tmp_path, "abc", {})
    reader, log = Reader(logs), JobLog(logs, 0)
    assert [*reader.new()] == []
    log.add({"part": "a", "points": 3})
    with log.path.open("a") as file:
        file.write('{"part": "b", ')
    assert [e["part"] for e in reader.new()] == ["a"] and not whole(logs, 0)
    with log.path.open("a") as file:
        file.write('"points": 4}\n')
    assert [e["part"] for e in reader.new()] == ["b"] and [*reader.new()] == []
    log.end()
    assert whole(logs, 0) and not whole(logs, 1)


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x00\n", b"[1]\n3\n", b'{"part"\n', b'{"other": 1}\n'])
def test_garbage_in_a_log_makes_its_job_one_that_did_not_end(garbage, tmp_path):
    logs = open_logs(tmp_path, "abc", {})
    log = JobLog(logs, 0)
    log.add({"part": "a", "points": 3, "fresh": True})
    log.path.write_bytes(log.path.read_bytes() + garbage)
    log.end()
    assert [e["part"] for e in entries(logs)] == ["a"] and not whole(logs, 0)


@pytest.mark.slow
def test_garbage_in_a_log_costs_no_point(archlab_command, small_parts, tmp_path, monkeypatch):
    archlab_command(*WORDS[:-1], "out=whole")
    real = JobLog.end

    def end(self):
        if not self.path.with_suffix(".seen").exists():
            self.path.with_suffix(".seen").touch()
            lines = self.path.read_bytes().splitlines(keepends=True)
            self.path.write_bytes(b"".join([*lines[:2], b"\x00garbage\n", *lines[3:]]))
        real(self)

    monkeypatch.setattr(JobLog, "end", end)
    done = archlab_command(*WORDS)
    assert done.code == 0 and "1 of 1 jobs did not end" in done.err
    pd.testing.assert_frame_equal(table(), table("whole"))


def test_a_part_that_two_jobs_computed_counts_once(tmp_path):
    logs = open_logs(tmp_path, "abc", {})
    for number in (0, 1):
        log = JobLog(logs, number)
        log.add({"part": "a", "points": 3, "fresh": number == 0})
        log.end()
        log.add({"model": "m", "reason": "no"})
    assert entries(logs) == [{"part": "a", "points": 3, "fresh": True}, {"model": "m", "reason": "no"}]


def test_another_process_takes_over_the_logs_of_one_that_is_gone(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    theirs = tmp_path / f"abc.{writer().partition('-')[0]}-{ended.pid}"
    theirs.mkdir()
    orphan = JobLog(theirs, 0)
    other_run = tmp_path / f"abd.{theirs.suffix}"
    other_run.mkdir()
    open_logs(tmp_path, "abc", {})
    assert not theirs.exists() and other_run.exists()
    with pytest.raises(ArchlabError, match="cannot be written"):
        orphan.add({"part": "a"})
