"""Billing periods in whole calendar steps, kept on the anchor's day where the month has it."""

import calendar
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from .errors import Json


def step(start: int, recurring: Json, times: int = 1) -> int:
    """The moment `times` intervals after `start`, itself taken as the anchor: 31 January is followed by 28 February."""
    count = recurring["interval_count"] * times
    moment = datetime.fromtimestamp(start, UTC)
    match recurring["interval"]:
        case "day":
            return int((moment + timedelta(days=count)).timestamp())
        case "week":
            return int((moment + timedelta(weeks=count)).timestamp())
        case "year":
            months = 12 * count
        case _:
            months = count
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return int(moment.replace(year=year, month=month + 1, day=day).timestamp())


def next_end(anchor: int, start: int, recurring: Json) -> int:
    """The end of the period that begins at `start`: the first step from the anchor that lies after it."""
    times = 1
    if start > anchor:  # begin near the answer: a step is never shorter than this estimate
        longest = {"day": 86400, "week": 604800, "month": 31 * 86400, "year": 366 * 86400}[recurring["interval"]]
        times = max(1, (start - anchor) // (longest * recurring["interval_count"]))
    while (end := step(anchor, recurring, times)) <= start:
        times += 1
    return end


def following(anchor: int, start: int, recurring: Json) -> int:
    """The end of the period from `start`, on the anchor's days where `start` is one of its steps, else on its own."""
    is_step = start == anchor or next_end(anchor, start - 1, recurring) == start
    return next_end(anchor if is_step else start, start, recurring)


def first_share(now: int, recurring: Json, *, trial_end: int | None, anchor: int | None, prorated: bool) -> Fraction:
    """How much of the first period is due today: nothing in a trial, a part of it before a later billing anchor."""
    if trial_end is not None and trial_end > now:
        return Fraction(0)
    if anchor is None or anchor <= now:
        return Fraction(1)
    if not prorated:
        return Fraction(0)
    return min(Fraction(1), Fraction(anchor - now, anchor - step(anchor, recurring, -1)))
