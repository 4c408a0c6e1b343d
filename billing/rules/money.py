"""Amounts in words for operators: Stripe's smallest units as `9.00 USD`."""

import re
from typing import Any

# Stripe's currencies without decimals, and those with three: docs.stripe.com/currencies.
_WHOLE = re.compile("bif|clp|djf|gnf|jpy|kmf|krw|mga|pyg|rwf|ugx|vnd|vuv|xaf|xof|xpf")
_THOUSANDTHS = re.compile("bhd|jod|kwd|omr|tnd")


def decimals(currency: str) -> int:
    """How many decimals an amount in this currency has at Stripe."""
    code = currency.lower()
    return 0 if _WHOLE.fullmatch(code) else 3 if _THOUSANDTHS.fullmatch(code) else 2


def in_words(amount: int, currency: Any) -> str:
    """`9.00 USD` for 900 usd, `900 JPY` for 900 jpy. Without a currency, the smallest units alone."""
    if not currency:
        return str(amount)
    places = decimals(str(currency))
    sign, digits = "-" * (amount < 0), str(abs(amount)).rjust(places + 1, "0")
    value = digits if places == 0 else f"{digits[:-places]}.{digits[-places:]}"
    return f"{sign}{value} {str(currency).upper()}"
