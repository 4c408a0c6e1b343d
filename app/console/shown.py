"""How the console writes what it shows: times, ages, amounts, names with underscores; and the page of an id."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from flask import Response, redirect, render_template, url_for

from billing.clock import Clock, iso
from billing.rules.money import in_words
from billing.rules.words import in_number, in_short

FRESH = timedelta(minutes=1)  # after a button was pressed, in which its page looks what came of it
# The pages that show one thing, and the name of the id in their address. What has none is looked for.
PLACES = {
    "user": ("console.customer", "user"),
    "event": ("console.event", "id"),
    "notification": ("console.notification", "id"),
    "incident": ("console.incident", "id"),
}

TONES = {
    **dict.fromkeys(("active", "trialing", "done", "delivered", "completed", "succeeded", "open", "finished"), "good"),
    **dict.fromkeys(("pending", "creating", "closing", "running", "past_due", "incomplete"), "wait"),
    **dict.fromkeys(("dead", "failed", "refused", "rejected", "unpaid", "stopped"), "bad"),
}


def page(template: str, **more: Any) -> Response:
    return Response(render_template(f"console/{template}", **more), content_type="text/html; charset=utf-8")


def see_other(address: str) -> Response:
    """Lead to another page, by GET."""
    answer = redirect(address, 303)
    assert isinstance(answer, Response)
    return answer


def filters(clock: Clock) -> dict[str, Callable[..., Any]]:
    return {
        "ago": lambda at: ago(at, clock.now()),
        "span": span,
        "is_fresh": lambda row: row is not None and clock.now() - row["at"] < FRESH,
        "exact": exact,
        "clock": lambda at: f"{_moment(at):%H:%M:%S}",
        "groupby_day": lambda entries: groupby(entries, key=lambda entry: f"{_moment(entry['at']):%A %-d %B %Y} (UTC)"),
        "iso": lambda at: iso(_moment(at)),
        "words": lambda text: str(text).replace("_", " ").replace(".", " · "),
        "number": lambda number: f"{number:,}",
        "counted": in_number,
        "money": in_words,
        "indented": indented,
        "link": link,
        "tone": tone,
    }


def indented(value: Any) -> str:
    """JSON for a person. Half of a surrogate pair, which events may have, stays an escape: no page can hold it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode()


def ago(at: datetime | str | None, now: datetime) -> str:
    """How long ago, or in how long: `3 min ago`, `in 2 d`."""
    if at is None:
        return "never"
    seconds = (now - _moment(at)).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """A duration in its largest unit of which there are two or more, on one line: `90 s`, `12 min`, `3 d`."""
    return in_short(timedelta(seconds=seconds)).replace(" ", "\u00a0")


def exact(at: datetime | str) -> str:
    """A time to the second, in UTC."""
    return f"{_moment(at):%Y-%m-%d %H:%M:%S} UTC"


def tone(word: str) -> str:
    """How a status is coloured: good, wait, bad; or not at all."""
    return TONES.get(str(word), "")


def place(kind: str, id_: str) -> str | None:
    """The address of the page that shows this thing; None where its kind has no page."""
    if kind not in PLACES:
        return None
    endpoint, name = PLACES[kind]
    values: dict[str, Any] = {name: id_}
    return url_for(endpoint, **values)


def link(id_: str, kind: str = "") -> str:
    """Where an id leads: to its page, or where there is none to the search for it."""
    return place(kind, id_) or url_for("console.find", q=id_)


def printable(text: str) -> str:
    """What a person typed, without what no id has and PostgreSQL takes for no text."""
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _moment(at: datetime | str) -> datetime:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment.astimezone(UTC)
