"""Text per token: how many tokens a character costs at a vocabulary, and so what a character costs.

A larger vocabulary makes a step dearer and a text shorter; only a cost per character counts both. The numbers are those
of one corpus, English web text (conf/text.yaml): they must not be used to compare languages, or code with prose. For a
text of one's own there is `measure_tokenizer`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from archlab import yamlfile
from archlab.algebra import Number, is_column, is_scalar, minimum, plain
from archlab.errors import SpecError, nearest
from archlab.fields import FieldType, check_fields, real, text
from archlab.paths import data_dir

BY = ("points", "fit")
"""points: between the measured vocabularies, piecewise linear in ln V | fit: the published parabola in ln V, capped."""

CONSTANTS = ("a", "b", "c", "cap")


def _is_points(x: Any) -> bool:
    pairs = isinstance(x, list) and len(x) > 1 and all(isinstance(p, list) and len(p) == 2 for p in x)
    return pairs and all(isinstance(n, int | float) and n > 0 for p in x for n in p) and sorted(x) == x


def _is_constants(x: Any) -> bool:
    return isinstance(x, dict) and tuple(x) == CONSTANTS and all(isinstance(v, int | float) for v in x.values())


@dataclass(frozen=True)
class Text:
    """The file's content: a corpus, measured totals, and the published formula with its error against them."""

    corpus: str = text("what text it is of")
    sample: str = text("how much of it")
    tokenizer: str = text("what was trained for each vocabulary")
    source: str = text("where the numbers come from")
    url: str = text("where that can be read")
    characters: float = real("characters of the text, in the unit of the tokens")
    points: Sequence[Sequence[float]] = field(
        kw_only=True,
        metadata={
            "type": FieldType("a list of [vocabulary, tokens], vocabularies rising", _is_points),
            "doc": "tokens of the text at each vocabulary, in the unit of the characters",
        },
    )
    fit: Mapping[str, float] = field(
        kw_only=True,
        metadata={
            "type": FieldType("a table of " + ", ".join(CONSTANTS), _is_constants),
            "doc": "a ln(V)^2 + b ln(V) + c, V at most the cap",
        },
    )

    @property
    def smallest(self) -> float:
        """The smallest vocabulary that was measured."""
        return self.points[0][0]

    @property
    def largest(self) -> float:
        """The largest vocabulary that was measured."""
        return self.points[-1][0]

    @cached_property
    def curve(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(ln V, tokens per character) of the points."""
        return tuple(math.log(v) for v, _ in self.points), tuple(n / self.characters for _, n in self.points)

    def fit_error(self, smallest: float, largest: float) -> float:
        """The largest relative error of the published formula against the points between two vocabularies."""
        known = ((v, n / self.characters) for v, n in self.points if smallest <= v <= largest)
        return max(abs(_fitted(self, v) / rate - 1) for v, rate in known)

    @property
    def sentence(self) -> str:
        """What is assumed, for a reader of a cost per character."""
        return (
            f"Tokens per character are those of {self.corpus} (Tao et al., NeurIPS 2024; conf/text.yaml): measured at "
            f"{len(self.points)} vocabularies from {self.smallest:,} to {self.largest:,}, the published formula within "
            f"{self.fit_error(4096, 256000):.0%} of them from 4,096 to 256,000; they say nothing of other languages or "
            "of code"
        )


@lru_cache(maxsize=1)
def english_web_text() -> Text:
    """The corpus of conf/text.yaml."""
    path = data_dir("conf") / "text.yaml"
    with yamlfile.naming(path):
        given = yamlfile.read(path)
        check_fields(Text, "", given)
        return Text(**given)


def tokens_per_character(vocab_size: Number, by: str = "points") -> Number:
    """Tokens that a character of English web text costs at a vocabulary of `vocab_size` entries, about 0.23 to 0.44.

    by: points (the default), interpolation of 24 measured vocabularies, linear in ln V; or fit, the published parabola
    in ln V with its cap at 200,000, within 4 % of the points from 4,096 to 256,000 and 6 % low at 1,024. A Python
    number gives a float, a numpy column a float64 column.

    Measured from 1,024 to 1,024,000 entries: a number outside raises SpecError, a column holds NaN there. Not for other
    languages or for code. Source: Tao et al., NeurIPS 2024 (arXiv:2407.13623), in conf/text.yaml.
    """
    if by not in BY:
        raise SpecError(f"by={by!r} must be one of {', '.join(BY)}{nearest(by, BY)}")
    about, law = english_web_text(), _interpolated if by == "points" else _fitted
    size = plain(vocab_size)
    if is_column(size):
        return _on_column(law, about, size)
    if not is_scalar(size) or isinstance(size, bool) or not about.smallest <= size <= about.largest:
        raise SpecError(
            f"vocab_size={size!r} must be a number from {about.smallest:,} to {about.largest:,}: the vocabularies "
            "whose tokens were counted"
        )
    return law(about, size)


def per_character(cost_per_token: Number, vocab_size: Number, by: str = "points") -> Number:
    """What a character costs where a token costs `cost_per_token`: bytes, FLOPs, seconds, joules. Numbers or columns.

    To compare vocabularies at equal text, take the cost at contexts of equal text too: `same_text` gives them.
    Raises SpecError as `tokens_per_character`.
    """
    return cost_per_token * tokens_per_character(vocab_size, by)


def same_text(tokens: Number, vocab_size: Number, other: Number, by: str = "points") -> Number:
    """Tokens of a text at a vocabulary of `other` entries that is `tokens` long at one of `vocab_size`. Not rounded.

    Raises SpecError as `tokens_per_character`.
    """
    return tokens * (tokens_per_character(other, by) / tokens_per_character(vocab_size, by))


def _on_column(law: Callable[[Text, Number], Number], about: Text, size: Number) -> Number:
    """The law where it was measured, NaN elsewhere."""
    import numpy

    if size.dtype.kind != "f":
        raise SpecError(f"a column of vocabularies must hold numbers, not {size.dtype}")
    inside = (size >= about.smallest) & (size <= about.largest)
    return numpy.where(inside, law(about, numpy.where(inside, size, about.smallest)), math.nan)


def _fitted(about: Text, size: Number) -> Number:
    ln = _ln(minimum(size, about.fit["cap"]))
    return about.fit["a"] * ln * ln + about.fit["b"] * ln + about.fit["c"]


def _interpolated(about: Text, size: Number) -> Number:
    xs, ys = about.curve
    if is_column(size):
        import numpy

        return numpy.interp(_ln(size), xs, ys)
    x = _ln(size)
    right = min(bisect_right(xs, x), len(xs) - 1)
    left = right - 1
    return ys[left] + (ys[right] - ys[left]) / (xs[right] - xs[left]) * (x - xs[left])


def _ln(x: Number) -> Number:
    if is_scalar(x):
        return math.log(x)
    import numpy

    return numpy.log(x)


# ---------------------------------------------------------------- a tokenizer and a text of one's own


def measure_tokenizer(path: str | Path, text_path: str | Path) -> float:
    """Tokens per character of a text in UTF-8 under a tokenizer of one's own; no beginning or end token is counted.

    path: a tokenizer.json (read by the package tokenizers) or a SentencePiece .model (by sentencepiece); characters are
    Unicode code points. Raises SpecError for a file that cannot be read, an empty text, or a package that is missing.
    """
    path, written = Path(path), _written(Path(text_path))
    readers = {".json": _with_tokenizers, ".model": _with_sentencepiece}
    if path.suffix not in readers:
        raise SpecError(f"{path} must be a tokenizer.json or a SentencePiece .model")
    if not path.is_file():
        raise SpecError(f"{path} is no file")
    return readers[path.suffix](path, written) / len(written)


def _written(path: Path) -> str:
    try:
        written = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise SpecError(f"{path} cannot be read: {(problem.strerror or 'unknown error').lower()}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not a text file in UTF-8") from None
    if not written:
        raise SpecError(f"{path} is empty: there is no text to count tokens of")
    return written


def _with_tokenizers(path: Path, written: str) -> int:
    library = _package("tokenizers", path)
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises nothing narrower
        raise SpecError(f"{path} is no tokenizer.json: {_first_line(problem)}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return len(tokenizer.encode(written, add_special_tokens=False).ids)


def _with_sentencepiece(path: Path, written: str) -> int:
    library = _package("sentencepiece", path)
    try:
        tokenizer = library.SentencePieceProcessor(model_file=str(path))
    except Exception as problem:  # RuntimeError and OSError, by its version
        raise SpecError(f"{path} is no SentencePiece model: {_first_line(problem)}") from None
    return len(tokenizer.encode(written, add_bos=False, add_eos=False))


def _package(name: str, path: Path) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise SpecError(f"{path} needs the package {name} to be read: pip install {name}") from None


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
