"""Events as an operator looks at them."""

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.errors import NotFound
from billing.maintenance.replay_store import EventFilter
from billing.models import EventStatus, events
from billing.operators import events as queries
from billing.operators.events import group_failures, list_events, show_event
from billing.operators.find import find
from tests.support.builders import NOON


def put(database: Database, *given: dict[str, Any]) -> None:
    """Events evt_1, evt_2, …: an hour apart, done, unless said otherwise."""
    rows = [
        {
            "livemode": False,
            "event_id": f"evt_{number}",
            "type": "invoice.paid",
            "customer_id": f"cus_{number}",
            "status": EventStatus.DONE,
            "error": None,
            "next_attempt_at": NOON,
            "created_at": NOON,
            "received_at": NOON + timedelta(hours=number),
            "payload": None,
            "object_id": f"in_{number}",
            **one,
        }
        for number, one in enumerate(given, 1)
    ]
    with database.write() as connection:
        connection.execute(sa.insert(events), rows)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["event_id"] for row in rows]


def test_newest_come_first_and_the_next_page_goes_on(database: Database) -> None:
    """OPS-163"""
    put(database, *[{}] * 5, {"status": "dead"})
    everything = EventFilter()
    assert ids(list_events(everything, database=database, limit=2)) == ["evt_6", "evt_5"]
    assert ids(list_events(everything, database=database, limit=2, before="evt_5")) == ["evt_4", "evt_3"]
    recent = EventFilter(since=NOON + timedelta(hours=4), status=EventStatus.DONE)
    assert ids(list_events(recent, database=database, limit=9)) == ["evt_5", "evt_4"]
    with pytest.raises(NotFound):
        list_events(everything, database=database, limit=2, before="evt_9")
    assert list_events(EventFilter(types=("nothing.*",)), database=database, limit=9) == []
    assert len(list_events(EventFilter(types=("nothing.*", "invoice.*")), database=database, limit=9)) == 6


def test_failures_are_grouped_by_what_they_say_without_its_ids(database: Database, monkeypatch) -> None:
    """OPS-167"""
    refused = "Stripe refused: no such customer {} (req_{})."
    put(
        database,
        {"status": "dead", "error": refused.format("cus_ABCDEF1", "abcdef1")},
        {"status": "pending", "error": refused.format("cus_ABCDEF2", "abcdef2"), "type": "customer.updated"},
        {"status": "dead", "error": "Stripe answers 500."},
        {"status": "done", "error": "Stripe answers 500."},
        {"status": "pending"},
        {"status": "dead", "error": "Stripe answers 502."},
        {"status": "dead", "error": None},
    )
    groups = group_failures(EventFilter(), database=database)
    assert [(group["error"], group["events"], group["dead"]) for group in groups] == [
        ("Stripe refused: no such customer cus_… (req_…).", 2, 1),
        ("no error was kept", 1, 1),
        ("Stripe answers 502.", 1, 1),
        ("Stripe answers 500.", 1, 1),
    ]
    first = groups[0]
    assert (first["newest"], first["types"]) == ("evt_2", ["customer.updated", "invoice.paid"])
    assert (first["oldest_at"], first["newest_at"]) == (NOON + timedelta(hours=1), NOON + timedelta(hours=2))
    assert [group["newest"] for group in group_failures(EventFilter(types=("customer.*",)), database=database)] == [
        "evt_2"
    ]
    monkeypatch.setattr(queries, "FAILURES_READ", 1)
    assert [group["newest"] for group in group_failures(EventFilter(), database=database)] == ["evt_7"]


def test_payload_is_shown_on_request_only(database: Database) -> None:
    put(database, {"payload": json.dumps({"id": "evt_1"}).encode()}, {"payload": b"\xff"}, {})
    assert "payload" not in show_event("evt_1", database=database)
    assert show_event("evt_1", database=database, payload=True)["payload"] == {"id": "evt_1"}
    assert show_event("evt_2", database=database, payload=True)["payload"] == "\ufffd"
    assert show_event("evt_3", database=database, payload=True)["payload"] is None
    assert "claim" not in show_event("evt_1", database=database)


@pytest.mark.parametrize("status", EventStatus)
def test_events_of_an_object_are_found_whatever_their_status(database: Database, status: EventStatus) -> None:
    """OPS-140"""
    put(database, {"status": status}, {})
    assert [(hit.kind, hit.id) for hit in find("in_1", database=database)] == [("event", "evt_1")]
