"""What all commands share: data to stdout, all else to stderr, one sentence and exit code 2 for bad input."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.errors import ArchlabError, SpecError

OVERRIDE = re.compile(r"^[A-Za-z_][\w.]*=", re.DOTALL)


PATIENCE = 2.0
"""Seconds after which work says what it is at."""


@contextmanager
def stopping() -> Iterator[None]:
    """Turns what the API raises for bad input into a sentence on stderr and exit code 2."""
    try:
        yield
        sys.stdout.flush()
    except ArchlabError as problem:
        fail(str(problem))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (head, less) has gone
        raise SystemExit(0) from None
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        fail(f"{where}{(problem.strerror or str(problem)).lower()}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def fail(sentence: str) -> None:
    """Prints the sentence and exits with 2."""
    print(f"archlab: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


def aside(text: str) -> None:
    """What is worth knowing beside the data, to stderr, dim where that is a terminal that wants colour."""
    say(f"\033[2m{text}\033[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else text)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says what is being done where it takes longer than PATIENCE, on a stderr that is a terminal."""
    told = threading.Timer(PATIENCE, lambda: aside(f"{what} ..."))
    told.daemon = True
    if sys.stderr.isatty():
        told.start()
    try:
        yield
    finally:
        told.cancel()


def print_json(document: Any) -> None:
    """One document on stdout."""
    print(json.dumps(document, indent=1, allow_nan=False, default=str))


def split_words(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Words of a command: models, and key=value overrides (values as YAML reads them). Raises SpecError."""
    models = [w for w in words if not OVERRIDE.match(w)]
    overrides: dict[str, Any] = {}
    for word in words:
        if not OVERRIDE.match(word):
            continue
        key, _, text = word.partition("=")
        key = key.removeprefix("model.")
        if key in overrides:
            raise SpecError(f"{key} is given twice")
        overrides[key] = _value(key, text, word, models)
    return models, overrides


def _value(key: str, text: str, word: str, models: Sequence[str]) -> Any:
    """What YAML reads; the text itself where the key takes text and YAML reads none (20: is a mapping to it)."""
    try:
        found = yamlfile.value(text, word)
    except SpecError:
        if _takes_text(key, models):
            return text
        raise
    as_written = isinstance(found, bool | int | float | dict) and _takes_text(key, models)
    return text if as_written else found


def _takes_text(key: str, models: Sequence[str]) -> bool:
    from archlab.presets import read
    from archlab.schema import field_type

    try:
        return bool(models) and field_type(read(models[0]), key).words.startswith("text")
    except ArchlabError:
        return False  # the model or the key is unknown: said where it is loaded


def one_model(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The one model that a command takes, and its overrides. Raises SpecError."""
    models, overrides = split_words(words)
    if len(models) != 1:
        raise SpecError(
            f"this command takes one model, not {len(models)}" + (f" ({', '.join(models)})" if models else "")
        )
    return models[0], overrides


def html_file(out: Path) -> Path:
    """The path of a page to write, looked at before anything is computed. Raises SpecError for one that cannot be."""
    if out == Path():
        raise SpecError(f"out={str(out)!r} must be the HTML file to write, such as report.html")
    if out.is_dir():
        raise SpecError(f"{str(out)!r} is a folder; name the HTML file to write, such as {out / 'report.html'}")
    for folder in out.parents:
        if folder.is_dir():
            break
        if folder.exists():
            raise SpecError(f"{str(folder)!r} is a file, not a folder; {out.name} cannot be written there")
    if not out.parent.is_dir():
        raise SpecError(f"there is no folder {str(out.parent)!r}; make it, or write {out.name} elsewhere")
    return out


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns two spaces apart (one, where 80 columns would not do), those in `left` left-aligned, numbers right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= 80 else " "

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return gap.join(cells).rstrip()

    return "\n".join([dim(line(head)), *map(line, rows)])


def bold(text: str) -> str:
    """Bold on a terminal that wants colour."""
    return f"\033[1m{text}\033[0m" if colour() else text


def dim(text: str) -> str:
    """Dim on a terminal that wants colour."""
    return f"\033[2m{text}\033[0m" if colour() else text


def colour() -> bool:
    """A terminal, and NO_COLOR not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
