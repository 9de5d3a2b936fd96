"""Writes the documentation as HTML that needs no network: the pages of docs/ and the API reference. `make docs`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import jinja2
import markdown2
from api import FACE, INSIDE, write_api

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXTRAS = ["fenced-code-blocks", "tables", "header-ids", "code-friendly", "cuddled-lists"]
LINK = re.compile(r'(?P<before>(?:href|src)=")(?P<to>(?!https?:|#|mailto:)[^"#]+)(?P<anchor>#[^"]*)?"')


def build(out: Path) -> list[Path]:
    """The whole of it into a folder, in the order of the index. Returns the pages that were written."""
    index = DOCS / "README.md"
    listed = [DOCS / name for name in re.findall(r"\]\((\w+\.md)\)", index.read_text())]
    sources = [*dict.fromkeys([index, *listed, *sorted(DOCS.rglob("*.md"))])]
    pages = {source: out / target(source) for source in sources}
    template = jinja2.Template((Path(__file__).parent / "page.html").read_text(), autoescape=False)
    for source, path in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_page(source, path, out, pages, template))
    return [*pages.values(), *write_api(out / "api")]


def target(source: Path) -> str:
    """Where a page goes: docs/README.md is the index."""
    inside = source.relative_to(DOCS).with_suffix(".html")
    return "index.html" if inside.name == "README.html" else inside.as_posix()


def _page(source: Path, path: Path, out: Path, pages: dict[Path, Path], template: jinja2.Template) -> str:
    body = markdown2.markdown(source.read_text(), extras=EXTRAS)

    def link(found: re.Match[str]) -> str:
        to = (source.parent / found["to"]).resolve()
        there = os.path.relpath(pages.get(to, to), path.parent)
        return f'{found["before"]}{there}{found["anchor"] or ""}"'

    def up(to: Path) -> str:
        return os.path.relpath(to, path.parent)

    title = re.search(r"^# (.+)$", source.read_text(), re.MULTILINE)
    places = [(up(there), there.stem.replace("_", " ")) for there in pages.values() if there.parent == out]
    return template.render(
        title=title[1] if title else source.stem,
        body=LINK.sub(link, body),
        places=[(where, "contents" if name == "index" else name) for where, name in places],
        face=[(up(out / "api" / f"{name.replace('.', '/')}.html"), name) for name in FACE],
        inside=[(up(out / "api" / f"{name.replace('.', '/')}.html"), name.removeprefix("archlab.")) for name in INSIDE],
        index=source == DOCS / "README.md",
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs").resolve()
    print(f"{len(build(folder))} pages", file=sys.stderr)
    print(folder / "index.html")
