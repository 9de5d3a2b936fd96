"""The pages of docs/: the index has them all, and what they lead to is there."""

import doctest
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import archlab

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Where a link into a page may lead: its headings, in small letters."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def made_later(there: Path) -> bool:
    """A page of the gallery, of which none is there until `make gallery` ran."""
    gallery = ROOT / "reports" / "index.html"
    return not gallery.exists() and there.is_relative_to(gallery.parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        to, _, anchor = link.partition("#")
        there = (page.parent / to).resolve() if to else page
        assert there.exists() or made_later(there), link
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), link


def test_the_index_has_every_page():
    said = {(ROOT / "docs" / link).resolve() for link in LINK.findall((ROOT / "docs" / "README.md").read_text())}
    assert {page for page in PAGES if page.parent.name == "docs"} - {ROOT / "docs" / "README.md"} <= said
    assert ROOT / "docs" / "decisions" in said


def test_the_numbers_are_what_they_are_said_to_be():
    """The lines after >>> of the page on numbers, in their order."""
    failed, tried = doctest.testfile(str(ROOT / "docs" / "numbers.md"), module_relative=False)
    assert tried > 20 and failed == 0


def test_the_citation_is_of_this_version():
    """Keys that the Citation File Format 1.2.0 requires, and facts that are said elsewhere too."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (
        cited["cff-version"] == "1.2.0"
        and cited["message"]
        and cited["authors"] == [{"name": "The archlab developers"}]
    )
    assert (cited["title"], cited["version"], cited["license"]) == ("archlab", archlab.__version__, project["license"])
