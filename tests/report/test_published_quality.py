"""What others measured: cited as text, links only to the web, and never as archlab's own; and a user's own losses."""

from __future__ import annotations

import re

import grids
import pytest
from grids import HOSTILE, vocabulary

from archlab.report import load_run, render
from archlab.report.charts import given, per_character, published
from archlab.report.points import cast


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return grids.small(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def text(small, tmp_path_factory):
    return render(small, tmp_path_factory.mktemp("pages") / "page.html").read_text()


def test_cited_and_graded(text):
    section = re.search(r'<section id="quality".*?</section>', text, re.DOTALL)[0]
    assert "archlab measured none of them" in section
    assert re.findall(r'<a href="([^"]*)"', section) == ["https://arxiv.org/abs/2408.00118"]
    assert "read in the source&#39;s text" in section and "from memory" in section
    assert "One result of 2 was read in the source&#39;s own text" in section


def test_hostile_text_is_text(text):
    assert HOSTILE not in text and "<img src=x" not in text and "javascript:alert" not in text.split('id="raw"')[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_other_shapes_of_evidence_are_left_out(tmp_path):
    run = load_run(grids.small(tmp_path / "run", evidence=["text", {}, {"sentence": "x", "kind": "new"}]))
    (cite,) = published.card(cast(run)).cites
    assert (cite.sentence, cite.grade, cite.link, cite.near) == ("x", "new", "", False)


def test_losses_are_given_not_measured(small):
    card = given.card(cast(load_run(small)))
    assert card.tags[-1] == "given" and "measured none of them" in card.caption
    assert card.switches[0].options[0][0] == "kv_cache_bytes quality_loss"
    assert card.notes == ("1 of 9 keys",)


def test_a_character_beside_a_token(tmp_path):
    """A step takes 1.5 times as long and a character has 0.8 times as many tokens."""
    card = per_character.card(cast(load_run(vocabulary(tmp_path / "run"))))
    assert card.caption == (
        "From 32,768 to 262,144 entries the decode bound rises by 50 % for a token and by 20 % for a character."
    )
    token, character, rate = (f.variants["decode_bound_per_character_s"]["data"][0] for f in card.figures)
    assert token["y"] == [1, 1.5] and character["y"] == [250, 300] and rate["y"] == [0.25, 0.2]  # ms, us; not the third
    assert "English web text" in card.notes[0] and card.tags == ("calculated", "bound")
