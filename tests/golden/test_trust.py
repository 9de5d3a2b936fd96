"""docs/trust.md is what the data give, and its words of a pair are those of the numbers."""

import pytest
from trust import PAGE, page
from trust_page import Beside, percent, shown, table


def test_the_committed_page_is_what_the_data_give():
    assert PAGE.read_text() == page(), "make trust writes it again"


def test_a_pair_that_differs_says_by_how_much():
    assert shown(Beside(("x",), 98.0, 100.0)) == ["x", "100", "98", "-2 %"]
    assert Beside((), 3, 3).exact and Beside((), 3, 3).error == 0
    assert Beside((), 1, 0).error == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.0, "0"),
        (0.0123, "1.2 %"),
        (-0.25, "-25 %"),
        (3e-6, "0.0003 %"),
        (1.0, "100 %"),
        (0.999, "100 %"),
        (7.5, "750 %"),
    ],
)
def test_errors_in_words(error, said):
    assert percent(error) == said


def test_a_bar_in_a_cell_does_not_end_it():
    assert table(("a",), [["b|c"]]).splitlines()[-1] == "| b\\|c |"
