"""Sweeps on other launchers: the same rows wherever the jobs run, and whole when a worker dies, raises or is late."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "slurm_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}
WORDS = [
    "model=gemma-3-1b,gemma-2b", "workload.context=range(2048,20480,2048)", "model.mlp.d_ff=4096,8192,262144",
    "hardware=l4,t4", "measure=never",
]  # fmt: skip


def there(module):
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def needs(launcher):
    extra = "ray" if launcher == "ray" else "launchers"
    return pytest.mark.skipif(not there(PLUGINS[launcher]), reason=f"needs archlab[{extra}]")


def paths(first):
    return os.pathsep.join([str(first), *filter(None, [os.environ.get("PYTHONPATH")])])


def sweep(folder, *words, patch="", **environment):
    """`python -m archlab.sweep` in a process of its own; `patch` is run at the start of it and of every worker."""
    (folder / "patch").mkdir(exist_ok=True)
    (folder / "patch" / "sitecustomize.py").write_text(patch)
    own = {"PYTHONPATH": paths(folder / "patch"), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "archlab.sweep", *WORDS, *words]
    return subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=240)


def table(folder, name):
    return pd.read_parquet(folder / name / "points.parquet")


def blocks(folder, name):
    return {p.name for p in (folder / name / "blocks").glob("*.*") if p.suffix in (".parquet", ".json")}


@pytest.fixture(scope="module")
def basic(tmp_path_factory):
    """The run that the others are held against."""
    folder = tmp_path_factory.mktemp("basic")
    done = sweep(folder, "out=run", "parts=2", patch=NO_REPORT)
    assert done.returncode == 0, done.stderr
    return folder


NO_REPORT = """
import sys
if sys.argv[0] == "-m":
    import archlab.sweep.gather
    archlab.sweep.gather._render = lambda folder: folder / "report.html"
"""


def same_as_basic(folder, basic):
    pd.testing.assert_frame_equal(table(folder, "run"), table(basic, "run"))
    assert blocks(folder, "run") == blocks(basic, "run")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [pytest.param(name, marks=needs(name)) for name in PLUGINS])
def test_the_rows_are_the_same_wherever_the_jobs_run(launcher, basic, tmp_path):
    """A relative folder and a relative search path are the parent's; workers print nothing."""
    (tmp_path / "own" / "workload").mkdir(parents=True)
    (tmp_path / "own" / "workload" / "mine.yaml").write_text("name: chat-8k\ncontext: 8k\n")
    words = ["out=run", "parts=2", f"hydra/launcher={launcher}"]
    done = sweep(tmp_path, *words, "workload=mine", "--config-dir", "own", patch=NO_REPORT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "run/report.html\n" and done.stderr == ""
    same = [c for c in table(basic, "run").columns if c not in ("workload",)]
    pd.testing.assert_frame_equal(table(tmp_path, "run")[same], table(basic, "run")[same])
    done = sweep(tmp_path, *words[1:], "out=again", patch=NO_REPORT)
    assert done.returncode == 0 and blocks(tmp_path, "again") == blocks(basic, "run")


@pytest.mark.slow
@needs("joblib")
def test_joblib(archlab_command, tmp_path, monkeypatch):
    monkeypatch.setattr("archlab.sweep.gather._render", lambda folder: folder / "report.html")
    words = ["sweep", "model=gemma-2b,gemma-7b", "model.mlp.d_ff=4096,8192", "hardware=l4", "measure=never"]
    assert archlab_command(*words, "out=basic").code == 0
    done = archlab_command(*words, "out=run", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.code == 0 and "trying again" not in done.err and done.out == "run/report.html\n"
    pd.testing.assert_frame_equal(table(tmp_path, "run"), table(tmp_path, "basic"))
    assert blocks(tmp_path, "run") == blocks(tmp_path, "basic")


# ---------------------------------------------------------------- jobs that fail: a test's own, in workers only

IN_WORKERS = """
import os
if "ARCHLAB_TEST_PARENT" not in os.environ:
    os.environ["ARCHLAB_TEST_PARENT"] = "this process"
else:
    import archlab.sweep.block as block
    part, seen = block._part, []
    def _part(*words):
        seen.append(1)
        if len(seen) == 2:
            {does}
        return part(*words)
    block._part = _part
"""
DEATHS = {
    "dies": "os._exit(9)",
    "is killed": "os.kill(os.getpid(), 9)",
    "raises": "raise KeyError('what nobody thought of')",
    "has no memory": "raise MemoryError",
    "is late": "import time; time.sleep(200)",
}


@pytest.mark.slow
@needs("joblib")
@pytest.mark.parametrize("what", DEATHS)
def test_what_a_worker_did_not_do_is_done_here(what, basic, tmp_path):
    words = ["out=run", "parts=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    more = ["hydra.launcher.timeout=40"] if what == "is late" else []
    done = sweep(tmp_path, *words, *more, patch=NO_REPORT + IN_WORKERS.format(does=DEATHS[what]))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "trying again here" in done.stderr
    said = {"raises": "KeyError: 'what nobody thought of'", "has no memory": "MemoryError", "is late": "TimeoutError"}
    assert said.get(what, "the launcher ended early") in done.stderr
    same_as_basic(tmp_path, basic)


@pytest.mark.slow
@needs("slurm_local")
def test_a_job_of_submitit_that_dies(basic, tmp_path):
    patch = NO_REPORT + IN_WORKERS.format(does=DEATHS["dies"])
    done = sweep(tmp_path, "out=run", "parts=2", "hydra/launcher=slurm_local", patch=patch)
    assert done.returncode == 0 and "Traceback" not in done.stdout
    assert "the launcher ended early" in done.stderr and "trying again here" in done.stderr
    same_as_basic(tmp_path, basic)


@pytest.mark.slow
@needs("joblib")
def test_a_parent_that_is_killed_leaves_workers_that_do_no_harm(basic, tmp_path):
    words = ["out=run", "parts=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, "-m", "archlab.sweep", *WORDS, *words]
    for _ in range(3):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until and not [*tmp_path.glob("run/blocks/*/*.jsonl")]:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
    done = sweep(tmp_path, *words, patch=NO_REPORT)
    assert done.returncode == 0, done.stderr
    same_as_basic(tmp_path, basic)


def test_a_block_that_fails_here_too_is_a_row(archlab_command, tmp_path, monkeypatch):
    """Beside others that stand: code 0; alone: code 1, and the run is there to be looked at."""
    from archlab.sweep import block

    real = block._part

    def part(own, *words):
        if own.device.name == "t4":
            raise RuntimeError("no such thing\nand more")
        return real(own, *words)

    monkeypatch.setattr(block, "_part", part)
    done = archlab_command("sweep", *WORDS, "precision=fp16", "out=run")
    assert done.code == 0 and "2 blocks failed; trying again here" in done.err and "Traceback" not in done.err
    frame = table(Path(), "run")
    lost = frame[frame["status"] == "failed"]
    assert set(lost["hardware"]) == {"t4"} and set(lost["reason"]) == {"RuntimeError: no such thing"} and len(lost) == 2
    assert (frame["status"] == "ok").sum() > 20
    done = archlab_command("sweep", *WORDS[:3], "hardware=t4", "measure=never", "precision=fp16", "out=run2")
    assert done.code == 1 and "Traceback" not in done.err
    frame = table(Path(), "run2")
    assert frame["status"].tolist() == ["failed"] * 2 and set(frame["reason"]) == {"RuntimeError: no such thing"}


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hydra/launcher=jobib"], "unknown launcher 'jobib'; did you mean 'joblib'? (known: basic, joblib, ray"),
        (["hydra.launcher.n_jobs=2"], "hydra.launcher.n_jobs is a setting of a launcher; say which, as hydra/launcher=joblib"),
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_job=2"], "unknown key hydra.launcher.n_job; did you mean 'n_jobs'?", marks=needs("joblib")),
        pytest.param(["hydra/launcher=slurm", "hydra.launcher.partion=x"], "did you mean 'partition'?", marks=needs("slurm_local")),
        pytest.param(["hydra/launcher=slurm", "hydra.launcher.timeout_min=x"], "could not be converted to Integer", marks=needs("slurm_local")),
        pytest.param(["hydra/launcher=slurm"], 'the launcher could not start: Could not detect "srun"', marks=needs("slurm_local")),
        pytest.param(["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpu=2"], "did you mean 'num_cpus'?", marks=needs("ray")),
    ],
)  # fmt: skip
def test_a_launcher_that_cannot_be(words, sentence, archlab_command, tmp_path):
    done = archlab_command("sweep", *WORDS, "out=run", *words)
    assert done.code == 2 and sentence in done.err and len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "launchers"), ("slurm", "launchers"), ("ray", "ray")])
def test_a_plugin_that_is_not_installed(launcher, extra, archlab_command, tmp_path, monkeypatch):
    monkeypatch.setattr("archlab.sweep.launchers.find_spec", lambda name: None)
    done = archlab_command("sweep", *WORDS, "out=run", f"hydra/launcher={launcher}")
    assert done.code == 2 and f'pip install "archlab[{extra}]"' in done.err and not Path("run").exists()
    assert len(done.err.strip().splitlines()) == 1
