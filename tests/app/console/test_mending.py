"""The pages of notifications, incidents and the audit log, over a real ledger."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import Notify, RemedyDuplicates
from billing.models import audit, incidents, outbox, projections, subscriptions
from billing.operators.audit import list_audit
from billing.operators.incident import show_incident
from billing.operators.listing import Wanted
from billing.operators.notifications import show_message
from tests.app.console.conftest import VIEWER, Browser, text_of
from tests.support.checkout_world import World

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def told(world: World) -> None:
    """Three changes: one that was given up, one delivered, and one of another customer."""
    now = world.clock.now()
    tries = [{"at": "2026-06-01T11:00:00Z", "seconds": 0.25, "status": 500, "error": f"It answered 500. {HOSTILE}"}]
    rows = [
        ("msg_dead", "cus_1", "dead", f"It answered 500. {HOSTILE}", tries),
        ("msg_done", "cus_1", "delivered", None, None),
        ("msg_else", "cus_2", "delivered", None, None),
    ]
    with world.database.write() as connection:
        for number, (id_, customer, status, error, history) in enumerate(rows):
            values = {"message_id": id_, "customer_id": customer, "status": status, "error": error}
            times = {"created_at": now - timedelta(hours=number), "next_attempt_at": now}
            payload = {"user_id": HOSTILE}
            kind = {"kind": "subscription.updated", "payload": payload, "history": history}
            connection.execute(sa.insert(outbox).values(**values, **times, **kind))


@pytest.fixture
def twice(world: World) -> int:
    """An incident about two live subscriptions; its id."""
    now = world.clock.now()
    with world.database.write() as connection:
        connection.execute(sa.insert(projections).values(customer_id="cus_1", generation=1, synced_at=now))
        for id_ in ("sub_1", "sub_2"):
            values: dict[str, Any] = {"subscription_id": id_, "customer_id": "cus_1", "product": "kiloclaw"}
            about = {"plan": "standard", "quantity": 1, "status": "active", "created_at": now}
            connection.execute(sa.insert(subscriptions).values(**values, **about))
        opened = {"kind": "duplicate_subscription", "opened_at": now, "reason": HOSTILE}
        row: dict[str, Any] = {"customer_id": "cus_1", "product": "kiloclaw", **opened}
        row["detail"] = {"subscriptions": ["sub_1", "sub_2"]}
        connection.execute(sa.insert(incidents).values(row))
        return int(connection.scalar(sa.select(incidents.c.id)) or 0)


@pytest.mark.usefixtures("told")
def test_notifications_are_listed_by_filter(console: Browser) -> None:
    """CON-11: with the command that lists the same."""
    text = text_of(console, "/console/notifications?customer=cus_1&status=dead")
    assert "msg_dead" in text
    assert "msg_done" not in text
    assert "onelane notifications list --customer cus_1 --status dead --since 24h" in text
    assert "Send 1 again" in text
    assert "msg_else" not in text_of(console, "/console/notifications?since=1h")
    assert console.get("/console/notifications?status=lost").status_code == 422


@pytest.mark.usefixtures("told")
def test_notification_is_shown_with_its_tries_and_sent_again(console: Browser, world: World) -> None:
    """CON-9, CON-10, CON-11: it keeps its id."""
    page = "/console/notification?id=msg_dead"
    text = text_of(console, page)
    assert HOSTILE not in text
    assert "0.25 s" in text
    assert "onelane notifications resend msg_dead --reason" in text
    pressed = console.post("/console/notifications/resend", page=page, id="msg_dead", reason="it is up again")
    assert "1 made due" in text_of(console, pressed.headers["Location"])
    assert show_message("msg_dead", database=world.database)["status"] == "pending"
    assert show_message("msg_done", database=world.database)["status"] == "delivered"
    assert Notify() in world.queue.sent


@pytest.mark.usefixtures("told")
def test_many_are_sent_again_and_never_by_an_empty_filter(console: Browser, world: World) -> None:
    """CON-9, NTF"""
    page = "/console/notifications?customer=cus_1&since=all"
    fields = {"customer": "cus_1", "since": "all", "reason": "they lost them"}
    pressed = console.post("/console/notifications/resend", page=page, **fields)
    assert "2 made due" in text_of(console, pressed.headers["Location"])
    assert console.post("/console/notifications/resend", page=page, since="all", reason="r").status_code == 422


def test_incident_shows_both_and_a_worker_ends_all_but_the_one_that_stays(
    console: Browser, world: World, twice: int
) -> None:
    """CON-9, CON-10, CON-11"""
    assert "duplicate subscription" in text_of(console, "/console/incidents")
    page = f"/console/incident?id={twice}"
    text = text_of(console, page)
    assert HOSTILE not in text
    assert f"onelane incidents resolve {twice} --keep sub_2 --yes --reason" in text
    pressed = console.post("/console/incident/keep", page=page, id=str(twice), keep="sub_2", reason="the newer plan")
    assert "asked for" in text_of(console, pressed.headers["Location"])
    shown = show_incident(twice, database=world.database, catalog=world.catalog)
    assert (shown["kept_by_choice"], shown["resolved_at"]) == ("sub_2", None)
    assert RemedyDuplicates(twice) in world.queue.sent


def test_incident_is_resolved_by_hand_and_no_longer_listed(console: Browser, world: World, twice: int) -> None:
    """CON-9, CON-11"""
    page = f"/console/incident?id={twice}"
    pressed = console.post("/console/incident/resolve", page=page, id=str(twice), reason="refunded by hand")
    assert "It is over" in text_of(console, pressed.headers["Location"])
    assert "None is open" in text_of(console, "/console/incidents")
    assert "resolved" in text_of(console, "/console/incidents?all=1")
    (row,) = list_audit(Wanted(9), database=world.database)
    assert (row["command"], row["reason"]) == ("incidents resolve", "refunded by hand")
    again = console.post("/console/incident/resolve", page="/console/incidents", id=str(twice), reason="again")
    assert again.status_code == 404, "who presses twice is told that it is over"


def test_viewer_presses_nothing(make_console: Any, world: World, twice: int, told: None) -> None:
    """CON-4"""
    viewer = Browser(make_console())
    viewer.log_in(VIEWER)
    for path, fields in (
        ("/console/notifications/resend", {"id": "msg_dead"}),
        ("/console/incident/resolve", {"id": str(twice)}),
        ("/console/incident/keep", {"id": str(twice), "keep": "sub_1"}),
    ):
        assert viewer.post(path, page=f"/console/incident?id={twice}", reason="r", **fields).status_code == 403
    assert not list_audit(Wanted(9), database=world.database)


def test_audit_log_shows_who_did_what_and_what_runs_still(console: Browser, world: World) -> None:
    """CON-9"""
    now = world.clock.now()
    rows = (("bob@host", HOSTILE, "done", now), ("eve@host", "evt_1", None, now - timedelta(days=30)))
    with world.database.write() as connection:
        for who, target, outcome, at in rows:
            values = {"at": at, "who": who, "command": "events replay", "target": target, "outcome": outcome}
            connection.execute(sa.insert(audit).values(values))
    text = text_of(console, "/console/audit")
    assert "bob@host" in text
    assert "eve@host" not in text
    assert HOSTILE not in text
    assert "onelane audit list --since 7d" in text
    assert "runs, or was killed" in text_of(console, "/console/audit?since=all")


@pytest.mark.parametrize("path", ["notification?id=msg_no", "notification", "incident?id=9", "incident?id=x"])
def test_what_is_not_there_is_a_page_that_says_so(console: Browser, path: str) -> None:
    assert console.get(f"/console/{path}").status_code == 404
