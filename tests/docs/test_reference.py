"""The public face: each name has words and stays what it is, and the reference that is built of them has them all."""

import inspect
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import archlab

ROOT = Path(__file__).parents[2]
NAMES = [name for name in dir(archlab) if not name.startswith("__")]
MODULES = [name for name in NAMES if inspect.ismodule(getattr(archlab, name))]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_words_of_its_own(name):
    found = getattr(archlab, name)
    assert found is getattr(archlab, name), "another object the second time"
    assert found.__doc__ and len(found.__doc__.split()) > 5


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isfunction(getattr(archlab, name))])
def test_a_public_function_names_what_it_takes(name):
    """Each argument that is no number of the workload stands in the words, or in those that they point to."""
    function = getattr(archlab, name)
    words = inspect.getdoc(function)
    if "those of `memory`" in words:
        words += inspect.getdoc(archlab.memory)
    left = [p for p in inspect.signature(function).parameters if not re.search(rf"\b{p}\b", words)]
    assert set(left) <= {"spec", "work", "model", "device", "dtype"}, left


@pytest.mark.slow
def test_the_reference_has_every_public_name_with_its_words(tmp_path):
    pytest.importorskip("pdoc")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "site" / "build.py", tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "index.html")
    page = (tmp_path / "api" / "archlab.html").read_text()
    for name in NAMES:
        of = page if name not in MODULES else (tmp_path / "api" / "archlab" / f"{name}.html").read_text()
        assert name in MODULES or f'id="{name}"' in page
        assert first_words(getattr(archlab, name)) in plain(of), name
    for path in tmp_path.rglob("*.html"):
        check_links(path)


def first_words(found) -> str:
    """The first words of a docstring, without signs."""
    return " ".join(re.findall(r"\w+", inspect.getdoc(found))[:6])


def plain(page: str) -> str:
    """The words of a page, without signs."""
    return " ".join(re.findall(r"\w+", unescape(re.sub(r"<[^>]*>", " ", page))))


def check_links(path: Path):
    """What a page loads or leads to is there, and on this disk."""
    for to in re.findall(
        r'(?:href|src)="([^"#]+)', re.sub(r"<(?:script|style).*?</(?:script|style)>", "", path.read_text(), flags=re.S)
    ):
        if not to.startswith("data:"):
            assert (path.parent / to.split("?")[0]).exists(), (path.name, to)
