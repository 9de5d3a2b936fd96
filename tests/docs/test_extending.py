"""The examples of docs/extending.md, pasted: files where they say, commands as they stand."""

import re
import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import numpy as np
import pytest
import torch

import archlab
from archlab import blocks
from archlab.nn.audit import audit
from archlab.nn.build import MODULES
from archlab.report import load_run, render, sections
from archlab.report.points import cast

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`([\w./~-]+)`\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
OWN = "~/.config/archlab/"


@pytest.fixture
def pasted(monkeypatch, tmp_path):
    """The files of the page: one's own under $ARCHLAB_CONFIG_DIR, others here."""
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(tmp_path / "own"))
    for name, text in FILES.items():
        path = tmp_path / name.replace(OWN, "own/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def module_of(monkeypatch, path):
    """A pasted module under its name."""
    name = path.removesuffix(".py").replace("/", ".")
    module = module_from_spec(spec_from_loader(name, loader=None))
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(FILES[path], path, "exec"), vars(module))
    return module


def test_the_page_has_an_example_of_each():
    kinds = [name.removeprefix(OWN).removeprefix("archlab/").split("/")[0] for name in FILES]
    assert kinds == [
        "model", "hardware", "precision", "workload", "shallow.yaml", "report", "analyzers", "engines", "blocks", "nn", "shifty.yaml",
    ]  # fmt: skip


def runs(among, slow):
    """The commands that say one thing, those that say the other marked as slow."""
    return [pytest.param(c, marks=[pytest.mark.slow] * (slow in c)) for c in COMMANDS if among(c)]


@pytest.mark.parametrize("command", runs(lambda c: "sweep" not in c, slow=" check "))
def test_commands(command, pasted, archlab_command):
    done = archlab_command(*command.split()[1:])
    assert done.code == 0, done.err


@pytest.mark.parametrize("command", runs(lambda c: "sweep" in c, slow="hardware="))
def test_sweeps(command, pasted, archlab_command, tmp_path):
    done = archlab_command(*command.split()[1:])
    assert done.code == 0, done.err
    assert "<html" in Path(done.out.strip()).read_text()[:500]


def test_the_model_is_what_it_says(pasted):
    base, own = archlab.load("gemma-2-2b"), archlab.load("narrow-2b")
    assert (own.d_model, own.vocab_size) == (2048, base.vocab_size)
    assert archlab.params(own).by_part["mlp"] == 26 * 3 * 2048 * 10240


def test_the_precision_is_what_it_says(pasted):
    spec = archlab.load("gemma-3-12b-text")
    bits = (
        archlab.memory(spec, archlab.Workload(context=64), precision="mixed-4").by_part["weights"]
        * 8
        / archlab.params(spec).total
    )
    assert 4.25 < bits < 8.5


def test_the_chart_draws_and_its_section_stands_in_the_page(monkeypatch, tmp_path):
    module = module_of(monkeypatch, "archlab/report/charts/masked.py")
    run = load_run(ROOT / "reports" / "attention_heads")
    card = module.card(cast(run))
    for row in card.numbers.rows:
        at = run.row(row.point.name)
        assert row.cells[0].value == pytest.approx(100 - 100 * at["flops_prefill"] / at["flops_prefill_dense"])
    (section,) = re.findall(r"^(def _masked.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(sections, "masked", module, raising=False)
    exec(section, vars(sections))
    monkeypatch.setattr(sections, "_ALL", (*sections._ALL, vars(sections).pop("_masked")))
    page = render(ROOT / "reports" / "attention_heads", tmp_path / "page.html").read_text()
    assert "What do causal masks and windows save?" in page and "masked-numbers" in page


def test_the_analyzer_counts_what_decoding_is_known_for(monkeypatch):
    """A step of one sequence uses each weight once: 2 FLOPs for its 2 bytes; of 8 sequences eight times that."""
    reuse = module_of(monkeypatch, "archlab/analyzers/reuse.py").reuse
    spec = archlab.load("gemma-2-9b")
    assert reuse(spec, archlab.Workload(new=1, context=4096))["mlp"] == 1
    assert reuse(spec, archlab.Workload(batch=8, new=1, context=4096))["mlp"] == 8
    many = reuse(archlab.load("gemma-2-9b", {"mlp.d_ff": np.array([4096.0, 8192.0])}), archlab.Workload(new=64))
    assert np.all(many["mlp"] == 64)


def test_the_engine_pages_the_whole_context(monkeypatch):
    engine = module_of(monkeypatch, "archlab/engines/pages.py").Pages(page=32)
    spec = archlab.load("gemma-3-1b", {"pattern": ["global"]})
    paged, ideal = (archlab.kv_cache(spec, n, engine=e).total for n, e in ((1000, engine), (1024, "ideal")))
    assert paged == ideal


def test_the_block_agrees_with_its_module_and_decodes_as_it_reads(monkeypatch, pasted, tmp_path):
    block = module_of(monkeypatch, "archlab/blocks/shift.py").Shift
    monkeypatch.setitem(blocks.MIXERS, "shift", block)
    monkeypatch.setattr(blocks, "Shift", block, raising=False)
    monkeypatch.setitem(MODULES, block, module_of(monkeypatch, "archlab/nn/shift.py").Shift)
    spec = archlab.load(tmp_path / "shifty.yaml")
    assert audit(spec, 48).ok
    model, ids = archlab.build(spec), torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        cache = model.init_cache(2, 10)
        steps = [model(part, cache) for part in ids.split((4, 1, 5), dim=1)]
        torch.testing.assert_close(torch.cat(steps, 1), model(ids), rtol=0, atol=1e-5)
