"""The table of faults is whole and up to date: each row has a test, or says why not."""

import pytest

from tests.support.faults import PAGE, citations, numbers_in, page, rows


@pytest.mark.parametrize(
    ("docstring", "numbers"),
    [
        ("{} row 52.", {52}),
        ("{} rows 9 to 12, 31 and 40: so", {9, 10, 11, 12, 31, 40}),
        ("no storm: {} 31: 60 s of 429", {31}),
        ("{} rows 20\n    and 21", {20, 21}),
        ("a default 31 and 40 customers", set()),
    ],
)
def test_citations_are_read(docstring: str, numbers: set[int]) -> None:
    assert numbers_in(docstring.format("faults")) == numbers


def test_every_row_has_a_test_or_says_why_not() -> None:
    cited = citations()
    numbers = [row.number for row in rows()]
    assert numbers == sorted(set(numbers))  # each kind begins at a number of its own: gaps are no fault
    assert numbers[:80] == list(range(1, 81))
    assert set(cited) <= set(numbers)
    assert [row.number for row in rows() if row.number not in cited and not row.untested] == []
    assert [row.number for row in rows() if row.number in cited and row.untested] == [], "drop it from [untested]"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `python -m tests.support.faults`"
