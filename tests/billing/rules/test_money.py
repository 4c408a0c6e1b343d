"""Amounts in words."""

import pytest

from billing.rules.money import in_words


@pytest.mark.parametrize(
    ("amount", "currency", "words"),
    [
        (900, "usd", "9.00 USD"),
        (5, "EUR", "0.05 EUR"),
        (0, "usd", "0.00 USD"),
        (-1234, "usd", "-12.34 USD"),
        (900, "jpy", "900 JPY"),
        (1500, "kwd", "1.500 KWD"),
        (900, None, "900"),
    ],
)
def test_amounts_are_written_in_the_unit_of_their_currency(amount: int, currency: str | None, words: str) -> None:
    """SUB-21"""
    assert in_words(amount, currency) == words
