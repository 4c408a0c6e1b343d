"""What an address asks for: the fields of a page's filter, as the command's options have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.console.shown import printable
from billing.clock import iso
from billing.errors import InvalidRequest
from billing.maintenance.replay_store import EventFilter
from billing.models import EventStatus

LONGEST = 255
SPANS = (
    ("1h", "in the last hour"),
    ("24h", "in the last 24 hours"),
    ("7d", "in the last 7 days"),
    ("all", "at any time"),
)
_LENGTHS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A filter as it was typed. `since` is a span of SPANS or a time; an empty text leaves a field out."""

    type: str = ""
    customer: str = ""
    status: str = ""
    since: str = "24h"

    def fields(self, now: datetime) -> dict[str, str]:
        """The same for another form, with the time as it is now: what was counted and what is worked are the same."""
        given = {"type": self.type, "customer": self.customer, "status": self.status}
        return {name: text for name, text in given.items() if text} | {"since": iso(self.since_at(now)) or "all"}

    def options(self, now: datetime | None = None) -> list[str]:
        """The command's options; with `now`, the time in place of a span."""
        since = "" if self.since == "all" else (iso(self.since_at(now)) or "") if now else self.since
        given = {"--type": self.type, "--customer": self.customer, "--status": self.status, "--since": since}
        return [word for name, text in given.items() if text for word in (name, text)]

    def since_at(self, now: datetime) -> datetime | None:
        """The time; None for any. Raises InvalidRequest."""
        if self.since == "all":
            return None
        if self.since in _LENGTHS:
            return now - _LENGTHS[self.since]
        try:
            moment = datetime.fromisoformat(self.since)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise InvalidRequest("since is no time; write it like 2026-06-01T12:00Z.")
        return moment

    def events(self, now: datetime) -> EventFilter:
        """Which events. Raises InvalidRequest."""
        if self.status and self.status not in list(EventStatus):
            raise InvalidRequest("There is no such status.")
        return EventFilter(
            types=(self.type,) if self.type else (),
            customer_id=self.customer or None,
            status=EventStatus(self.status) if self.status else None,
            since=self.since_at(now),
        )


def read_asked(given: Mapping[str, str], **instead: str) -> Asked:
    """The fields of an address or a form. `instead` are those that the page decides, or that are missing."""
    texts = {name: printable(given.get(name, instead.get(name, "")))[:LONGEST] for name in Asked.__slots__}
    return Asked(**texts | {"since": texts["since"] or "24h"})
