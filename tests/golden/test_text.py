"""Tokens per character: the 24 measured points, the published formula, and a tokenizer of one's own."""

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archlab.errors import SpecError
from archlab.text import english_web_text, measure_tokenizer, per_character, same_text, tokens_per_character

VOCABULARIES = [
    1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192, 9216, 10240, 12288, 16384, 20480, 24576, 28672, 32768, 48128, 64512,
    78848, 96256, 128000, 256000, 512000, 1024000,
]  # fmt: skip
TOKENS = [
    0.09915, 0.08441, 0.07771, 0.07380, 0.07107, 0.06894, 0.06725, 0.06593, 0.06484, 0.06387, 0.06243, 0.06034, 0.05899,
    0.05801, 0.05728, 0.05668, 0.05529, 0.05447, 0.05400, 0.05364, 0.05321, 0.05242, 0.05172, 0.05140,
]  # fmt: skip
"""The repository's fit_tokenization_func.py."""

MEASURED = {
    1024: 0.4441, 4096: 0.33056, 8192: 0.29531, 16384: 0.27027, 32768: 0.25387, 64512: 0.24398, 96256: 0.24026,
    128000: 0.23833, 256000: 0.23479, 512000: 0.23166, 1024000: 0.23022,
}  # fmt: skip
"""Tokens per character, D / H of fit_tokenization_func.py, divided by hand."""

PUBLISHED = {
    1024: 0.41588, 4096: 0.33182, 32000: 0.2524, 32768: 0.2518, 128256: 0.22933, 151936: 0.22821, 200000: 0.22716,
    256000: 0.22716, 262144: 0.22716,
}  # fmt: skip
"""The repository's own D_to_H, run."""

inside = st.floats(1024, 1024000)
both = pytest.mark.parametrize("by", ["points", "fit"])


def test_the_file_holds_the_24_points():
    assert [tuple(point) for point in english_web_text().points] == list(zip(VOCABULARIES, TOKENS, strict=True))


def test_the_points_are_met():
    for vocabulary, ratio in MEASURED.items():
        assert tokens_per_character(vocabulary) == pytest.approx(ratio, abs=5e-6)
    for vocabulary, tokens in english_web_text().points:
        assert tokens_per_character(vocabulary) == pytest.approx(tokens / 0.22326, rel=1e-14)


def test_the_published_formula():
    for vocabulary, ratio in PUBLISHED.items():
        assert tokens_per_character(vocabulary, by="fit") == pytest.approx(ratio, abs=6e-6)


def test_the_papers_own_flops():
    """6 (Nnv + V d) H f(V) of the first row of the repository's exp_data.csv."""
    flops = 6 * (33_222_784 + 4096 * 512) * per_character(180_820_540.85, 4096, by="fit")
    assert flops == pytest.approx(1.271517696e16, rel=1e-9)


def test_the_errors_of_the_formula_are_those_that_were_published_about_it():
    error = {v: tokens_per_character(v, by="fit") / tokens_per_character(v) - 1 for v in VOCABULARIES}
    about = english_web_text()
    assert max(abs(e) for v, e in error.items() if 4096 <= v <= 256000) == pytest.approx(about.fit_error(4096, 256000))
    assert error[128000] == pytest.approx(-about.fit_error(4096, 256000)) == pytest.approx(-0.038, abs=5e-4)
    assert error[1024] == pytest.approx(-about.fit_error(0, 1e9)) == pytest.approx(-0.064, abs=5e-4)
    assert max(map(abs, error.values())) == -error[1024]
    assert "4% of them" in about.sentence


def test_what_a_larger_vocabulary_saves():
    """32,768 to 262,144 entries: 7.6 % of the tokens measured, 9.8 % by the formula."""
    assert 1 - same_text(1, 32768, 262144) == pytest.approx(0.0756, abs=5e-5)
    assert 1 - same_text(1, 32768, 262144, by="fit") == pytest.approx(0.0979, abs=5e-5)
    assert same_text(8192, 65536, 65536) == 8192


@both
@given(a=inside, b=inside)
def test_a_larger_vocabulary_never_needs_more_tokens(by, a, b):
    small, large = sorted((a, b))
    assert tokens_per_character(large, by) <= tokens_per_character(small, by) * (1 + 1e-12)


@both
@given(sizes=st.lists(inside, min_size=1, max_size=20))
def test_a_column_is_its_numbers(by, sizes):
    column = tokens_per_character(np.array(sizes), by)
    assert column.dtype == np.float64
    assert column == pytest.approx([tokens_per_character(v, by) for v in sizes], rel=1e-12)


def test_whole_numbers_of_numpy_count():
    assert tokens_per_character(np.int64(32768)) == tokens_per_character(32768)
    assert tokens_per_character(np.array([32768, 262144]))[0] == pytest.approx(tokens_per_character(32768), rel=1e-14)


@both
def test_outside_the_range_a_column_holds_nan_and_a_number_is_refused(by):
    column = tokens_per_character(np.array([1023.0, 1024.0, 1024000.0, 1024001.0, np.nan, -1.0]), by)
    assert np.isnan(column).tolist() == [True, False, False, True, True, True]
    for size in (1023, 1024001, 0, -5, math.nan, math.inf, True, "32k", None):
        with pytest.raises(SpecError, match=r"must be a number from 1,024 to 1,024,000"):
            tokens_per_character(size, by)


def test_other_nonsense_is_refused():
    with pytest.raises(SpecError, match="by='fits' must be one of points, fit; did you mean 'fit'"):
        tokens_per_character(4096, by="fits")
    with pytest.raises(SpecError, match="must hold numbers"):
        tokens_per_character(np.array(["a"]))


# ---------------------------------------------------------------- a tokenizer of one's own


@pytest.fixture
def words(tmp_path):
    """A tokenizer.json of whole words, and a text of 14 characters and 3 words."""
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"<bos>": 0, "a": 1, "cat": 2, "sat": 3, "?": 4}, unk_token="?")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 0)])
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text("a cat sät   \n\n", encoding="utf-8")
    return tmp_path


def test_a_tokenizer_and_a_text(words):
    """3 tokens of 14 characters: no special token, no truncation, characters and not bytes."""
    assert measure_tokenizer(words / "tokenizer.json", words / "text.txt") == 3 / 14
    assert measure_tokenizer(str(words / "tokenizer.json"), str(words / "text.txt")) == 3 / 14


def test_a_sentencepiece_model(words, monkeypatch):
    """The package is faked: its processor is asked for pieces without a beginning or an end."""

    class Fake:
        class SentencePieceProcessor:
            def __init__(self, model_file):
                if not model_file.endswith("good.model"):
                    raise RuntimeError("Internal: could not parse ModelProto")

            def encode(self, written, add_bos, add_eos):
                return list(written[:7]) + [0] * (add_bos + add_eos)

    monkeypatch.setitem(sys.modules, "sentencepiece", Fake)
    for name in ("good.model", "bad.model"):
        (words / name).write_bytes(b"x")
    assert measure_tokenizer(words / "good.model", words / "text.txt") == 7 / 14
    with pytest.raises(SpecError, match=r"bad.model is no SentencePiece model: Internal: could not parse"):
        measure_tokenizer(words / "bad.model", words / "text.txt")


@pytest.mark.parametrize(("name", "package"), [("tokenizer.json", "tokenizers"), ("x.model", "sentencepiece")])
def test_a_missing_package_says_what_to_install(name, package, words, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (words / "x.model").write_bytes(b"x")
    with pytest.raises(SpecError, match=f"needs the package {package} to be read: pip install {package}"):
        measure_tokenizer(words / name, words / "text.txt")


def test_files_that_cannot_be_used(words):
    (words / "empty.txt").write_text("")
    (words / "latin.txt").write_bytes(b"\xe4")
    (words / "odd.json").write_text(json.dumps({"model": "none"}))
    (words / "list.txt").write_text("a b")
    for tokenizer, text, sentence in (
        ("tokenizer.json", "none.txt", "none.txt cannot be read: no such file or directory"),
        ("tokenizer.json", "empty.txt", "empty.txt is empty"),
        ("tokenizer.json", "latin.txt", "is not a text file in UTF-8"),
        ("odd.json", "text.txt", "odd.json is no tokenizer.json"),
        ("none.json", "text.txt", "none.json is no file"),
        ("list.txt", "text.txt", "list.txt must be a tokenizer.json or a SentencePiece .model"),
    ):
        with pytest.raises(SpecError) as raised:
            measure_tokenizer(words / tokenizer, words / text)
        assert sentence in str(raised.value) and "\n" not in str(raised.value)
