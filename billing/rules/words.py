"""Counts and ages in words, for sentences that people read: `1 event`, `2 events`, `12 min`."""

from datetime import timedelta


def in_number(number: int, one: str, many: str = "") -> str:
    """`1 event`, `2 events`; `many` where the plural takes more than an s: `2 events were`. Thousands have commas."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def in_short(age: timedelta) -> str:
    """`40 s`, `12 min`, `3 h`, `5 d`."""
    seconds = max(0, round(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
