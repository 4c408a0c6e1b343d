"""Counts and ages, as people read them."""

from datetime import timedelta

import pytest

from billing.rules.words import in_number, in_short


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("event",), "0 events"),
        (1, ("event",), "1 event"),
        (2, ("event",), "2 events"),
        (1, ("try has", "tries have"), "1 try has"),
        (1234, ("try has", "tries have"), "1,234 tries have"),
    ],
)
def test_noun_is_singular_for_one_alone(number: int, words: tuple[str, ...], said: str) -> None:
    """OPS-230"""
    assert in_number(number, *words) == said


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=2), "2 d"),
    ],
)
def test_age_is_in_its_largest_unit_of_two_or_more(age: timedelta, said: str) -> None:
    assert in_short(age) == said
