"""The audit log, and notifications that are sent again."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.database.migrations.upgrade import find, upgrade
from billing.models import incidents, outbox
from billing.notifications.deliver import notify
from billing.notifications.senders import NotDelivered
from billing.operators.audit import audited, list_audit, note_migration
from billing.operators.erase import NotErasable
from billing.operators.listing import Wanted
from billing.operators.notifications import MessageFilter, count_messages, list_messages, resend, try_receiver
from tests.support.builders import NOON, MovableClock

CLOCK = MovableClock(NOON)


class Taking:
    """An application that takes everything, or nothing."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.taken: list[str] = []
        self.refuses = refuses

    def send(self, message_id: str, body: Any, *, at: Any) -> None:
        if self.refuses:
            raise NotDelivered("The application answered 500.")
        self.taken.append(message_id)


def put_message(database: Database, number: int, *, customer: str = "cus_1", status: str = "delivered") -> None:
    at = NOON - timedelta(days=4) + timedelta(minutes=number)
    times = {"created_at": at, "next_attempt_at": at, "delivered_at": at if status == "delivered" else None}
    row = {"message_id": f"msg_{number}", "customer_id": customer, "kind": "subscription.activated", "payload": {}}
    with database.write() as connection:
        connection.execute(sa.insert(outbox).values(row | times | {"status": status}))


def test_write_is_noted_before_it_begins_with_what_came_of_it(database: Database) -> None:
    """OPS-142"""
    with audited("events replay", target="evt_1", reason="a lost event", database=database, clock=CLOCK) as say:
        (begun,) = list_audit(Wanted(9), database=database)
        assert begun["outcome"] is None, "a command that is killed here has a row"
        say("1 of 1")
    (row,) = list_audit(Wanted(9), database=database)
    assert (row["command"], row["target"], row["reason"], row["outcome"]) == (
        "events replay",
        "evt_1",
        "a lost event",
        "1 of 1",
    )
    assert "@" in row["who"]


def test_name_that_is_not_in_utf_8_stops_no_command(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-142: nor a migration."""
    monkeypatch.setenv("LOGNAME", os.fsdecode(b"J\xf6rg"))
    with audited("events replay", target="evt_1", reason="a lost event", database=database, clock=CLOCK):
        pass
    assert list_audit(Wanted(9), database=database)[0]["who"].startswith("J?rg@")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(NotErasable("still billed"), "failed: not_erasable"), (KeyboardInterrupt(), "failed: KeyboardInterrupt")],
)
def test_failure_is_an_outcome_too(error: BaseException, outcome: str, database: Database) -> None:
    """OPS-142"""
    with (
        pytest.raises(type(error)),
        audited("customers erase", target="ann", reason="asked", database=database, clock=CLOCK),
    ):
        raise error
    assert list_audit(Wanted(9), database=database)[0]["outcome"] == outcome


def test_what_was_done_about_an_incident_or_a_change_is_found_by_its_customer(database: Database) -> None:
    """OPS-189"""
    put_message(database, 0)
    with database.write() as connection:
        row = {"customer_id": "cus_1", "product": "p", "kind": "duplicate_subscription", "detail": {}}
        number = connection.scalar(sa.insert(incidents).values(**row, opened_at=NOON).returning(incidents.c.id))
    theirs = ["msg_0", f"incident {number}", f"incident {number}: keep sub_1"]
    for target in [*theirs, "msg_9", f"incident {number}0", f"incident {number}0: keep sub_1"]:
        with audited("x", target=target, reason=None, database=database, clock=CLOCK):
            pass
    assert [row["target"] for row in list_audit(Wanted(9, customer="cus_1"), database=database)] == theirs[::-1]


def test_dry_run_leaves_no_row(database: Database) -> None:
    with audited("reconcile", target=None, reason=None, database=database, clock=CLOCK, dry_run=True):
        pass
    assert list_audit(Wanted(9), database=database) == []


def test_notifications_are_sent_again_under_their_ids_in_order(database: Database) -> None:
    """OPS-143"""
    for number in range(4):
        put_message(database, number)
    put_message(database, 4, customer="cus_2", status="dead")
    put_message(database, 5, customer="cus_3", status="erased")
    chosen = MessageFilter(since=NOON - timedelta(days=4) + timedelta(minutes=1))
    assert count_messages(chosen, database=database) == 4, "the first is older, the last is an erased user's"
    assert resend(chosen, database=database, clock=CLOCK) == 4
    application = Taking()
    notify(database=database, notifier=application, clock=CLOCK)
    assert [one for one in application.taken if one != "msg_4"] == ["msg_1", "msg_2", "msg_3"]
    assert "msg_4" in application.taken
    assert resend(chosen, database=database, clock=CLOCK, stop=lambda: True) == 0, "stopped before the first batch"
    assert {row["status"] for row in list_messages(chosen, database=database, limit=9)} == {"delivered", "erased"}


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (MessageFilter(message_ids=["msg_0", "msg_nobody"]), 1),
        (MessageFilter(status="dead"), 1),
        (MessageFilter(customer_id="cus_1"), 2),
        (MessageFilter(customer_id="cus_1", status="dead"), 1),
        (MessageFilter(customer_id="ann"), 1),
    ],
)
def test_filter_chooses(chosen: MessageFilter, count: int, database: Database) -> None:
    put_message(database, 0)
    put_message(database, 1, status="dead")
    put_message(database, 2, customer="cus_2")
    with database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO customers (user_id, customer_id, idempotency_key, parameters, created_at)"
            " VALUES ('ann', 'cus_2', 'k', '{}', '2026-06-01')"
        )
    assert chosen.described()
    assert count_messages(chosen, database=database) == count


def test_empty_filter_has_no_description() -> None:
    assert MessageFilter().described() is None


@pytest.mark.parametrize(("refuses", "error"), [(False, None), (True, "The application answered 500.")])
def test_receiver_is_tried_once(refuses: bool, error: str | None) -> None:
    tried = try_receiver(Taking(refuses=refuses), clock=CLOCK)
    assert (tried["delivered"], tried["error"]) == (not refuses, error)


def test_migration_is_noted_with_the_versions_and_only_where_something_changed(tmp_path: Path) -> None:
    """OPS-142: with what it changes, since before it there may be no audit log."""
    ledger = Database(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")

    def noted(connection: sa.Connection, before: str | None, after: str) -> None:
        note_migration(connection, before, after, reason="a new release", clock=CLOCK)

    for _ in range(2):
        upgrade(ledger, noted=noted)
    (row,) = list_audit(Wanted(9), database=ledger)
    assert (row["command"], row["target"], row["reason"]) == ("db upgrade", "a ledger without tables", "a new release")
    assert row["outcome"] == f"migrated to {find(ledger).version}"
    ledger.close()
