"""The pages of events and replays, over a real ledger."""

import json
import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from app.console.asked import read_asked
from billing.coordination.jobs import ReplayEvents, WorkEvents
from billing.errors import InvalidRequest
from billing.maintenance.replay_run import work_run
from billing.models import events
from billing.operators.audit import list_audit
from billing.operators.listing import Wanted
from billing.operators.replays import show_replay
from tests.app.console.conftest import VIEWER, Browser, text_of
from tests.support.builders import NOON
from tests.support.checkout_world import World

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def ledger_of_events(world: World) -> None:
    """Sixty events of the last hours; every fifth was given up, and each says whose it is."""
    now = world.clock.now()
    rows = [
        {
            "livemode": False,
            "event_id": f"evt_{number:03}",
            "type": "invoice.paid" if number % 2 else "customer.subscription.updated",
            "customer_id": f"cus_{number % 3}",
            "status": "done" if number % 5 else "dead",
            "error": None if number % 5 else f"{HOSTILE} req_abcdef{number}",
            "attempts": 0 if number % 5 else 20,
            "next_attempt_at": now,
            "created_at": now,
            "received_at": now - timedelta(minutes=30 * (60 - number)),
            "payload": json.dumps({"id": f"evt_{number:03}", "data": {"object": {"email": "g@x.org"}}}).encode(),
        }
        for number in range(60)
    ]
    with world.database.write() as connection:
        connection.execute(sa.insert(events), rows)


def shown(text: str) -> list[str]:
    """The events of the list, in their order."""
    return re.findall(r"evt_\d{3}(?=</a>)", text.split('id="events"')[1])


@pytest.mark.usefixtures("ledger_of_events")
def test_events_are_those_of_the_last_day_by_filter_and_page(console: Browser) -> None:
    """OPS-163: and the command that lists the same is there."""
    whole = shown(text_of(console, "/console/events"))
    assert whole == [f"evt_{number:03}" for number in range(59, 11, -1)]
    text = text_of(console, "/console/events?type=customer.*&customer=cus_1&since=all")
    assert shown(text) == [f"evt_{number:03}" for number in range(59, -1, -1) if number % 2 == 0 and number % 3 == 1]
    assert "onelane events list --type &#39;customer.*&#39; --customer cus_1</code>" in text
    first = text_of(console, "/console/events?since=all")
    (older,) = re.findall(r'href="(/console/events\?[^"]*before=[^"]*)"', first)
    assert shown(first) + shown(text_of(console, older.replace("&amp;", "&"))) == [
        f"evt_{number:03}" for number in range(59, -1, -1)
    ]
    assert set(shown(text_of(console, "/console/dead"))) == {f"evt_{number:03}" for number in range(0, 60, 5)}


@pytest.mark.usefixtures("ledger_of_events")
def test_failures_are_shown_together_and_as_text(console: Browser) -> None:
    """OPS-167, CON-10"""
    for path in ("/console/events?since=all", "/console/dead", "/console/event?id=evt_005"):
        text = text_of(console, path)
        assert HOSTILE not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text_of(console, "/console/dead").count("req_…") == 1


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=2026-06-01T12:00", "status=lost", "before=evt_nowhere", f"type={quote(HOSTILE)}"],
)
def test_filter_that_means_nothing_is_a_page_that_says_so(console: Browser, query: str) -> None:
    answer = console.get(f"/console/events?{query}")
    assert answer.status_code in (200, 404, 422)
    assert HOSTILE not in answer.get_data(as_text=True)


@pytest.mark.usefixtures("ledger_of_events")
def test_payload_is_shown_redacted_and_who_looked_is_kept(console: Browser, world: World) -> None:
    """OPS-165, CON-9"""
    page = "/console/event?id=evt_005"
    assert "g@x.org" not in text_of(console, page)
    answer = console.post("/console/event/payload", page=page, id="evt_005")
    text = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert "[hidden]" in text
    assert "g@x.org" not in text
    (row,) = list_audit(Wanted(9), database=world.database)
    assert (row["command"], row["target"], row["who"]) == ("events show --payload", "evt_005", "ann from 127.0.0.1")


@pytest.mark.usefixtures("ledger_of_events")
def test_one_event_is_replayed(console: Browser, world: World) -> None:
    """CON-9, CON-11"""
    page = "/console/event?id=evt_005"
    assert "onelane events replay evt_005 --reason" in text_of(console, page)
    pressed = console.post("/console/event/replay", page=page, id="evt_005", reason="mended")
    after = text_of(console, pressed.headers["Location"])
    assert "1 of 1 (replay 1)" in after
    assert "mended" in after.split('id="replays"')[1]
    assert WorkEvents() in world.queue.sent


@pytest.mark.usefixtures("ledger_of_events")
def test_many_are_counted_first_and_replayed_by_workers_with_a_live_result(console: Browser, world: World) -> None:
    """CON-9, CON-11, OPS-166: what was counted is what is replayed, also where time passes before the button."""
    page = "/console/events/replay?type=invoice.*&status=dead&since=24h"
    text = text_of(console, page)
    assert "5 events of 3 customers: 5 dead" in " ".join(text.split())
    assert "onelane events replay --type &#39;invoice.*&#39; --status dead --since " in text
    fields: dict[str, Any] = dict(re.findall(r'name="(type|status|since)" value="([^"]*)"', text.split("<form")[-1]))
    world.clock.advance(hours=1)
    pressed = console.post("/console/events/replay", page="/console/events", reason="the price is back", **fields)
    assert pressed.status_code == 303
    assert "begun (replay 1)" in text_of(console, pressed.headers["Location"])
    assert ReplayEvents(1) in world.queue.sent
    work_run(1, database=world.database, queue=world.queue, clock=world.clock)
    assert show_replay(1, database=world.database)["result"]["waiting"] == 5
    part = console.get("/console/replay?id=1", headers={"HX-Request": "true"}).get_data(as_text=True)
    assert "<html" not in part
    assert 'hx-trigger="every 2s"' in part
    assert "5 of 5 set back" in part
    stopped = console.post("/console/replay/stop", page="/console/replay?id=1", id="1", reason="enough")
    assert "stopped" in text_of(console, stopped.headers["Location"])
    with world.database.write() as connection:
        connection.execute(sa.update(events).values(status="done"))
    assert "hx-trigger" not in text_of(console, "/console/replay?id=1")


def test_empty_filter_is_refused(console: Browser, world: World) -> None:
    """CON-9"""
    assert console.post("/console/events/replay", page="/console/events", reason="all", since="all").status_code == 422
    (row,) = list_audit(Wanted(9), database=world.database)
    assert row["outcome"] == "failed: invalid_request"


def test_second_run_is_told_of_the_first(console: Browser, ledger_of_events: None) -> None:
    """LED-17: to press twice does no harm."""
    for status in (303, 503):
        pressed = console.post("/console/events/replay", page="/console/events", reason="r", since="all", status="dead")
        assert pressed.status_code == status
    assert "A replay runs already" in pressed.get_data(as_text=True)


@pytest.mark.usefixtures("ledger_of_events")
def test_viewer_presses_nothing(make_console: Any, world: World) -> None:
    """CON-4"""
    viewer = Browser(make_console())
    viewer.log_in(VIEWER)
    for path, fields in (
        ("/console/event/payload", {"id": "evt_005"}),
        ("/console/event/replay", {"id": "evt_005", "reason": "r"}),
        ("/console/events/replay", {"status": "dead", "reason": "r"}),
        ("/console/replay/stop", {"id": "1", "reason": "r"}),
        ("/console/runs/reconcile", {}),
    ):
        assert viewer.post(path, page="/console/event?id=evt_005", **fields).status_code == 403
    assert not list_audit(Wanted(9), database=world.database)


def test_reconciling_is_begun_by_a_worker(console: Browser, world: World) -> None:
    """CON-9, CON-11"""
    assert "onelane reconcile --yes" in text_of(console, "/console/runs")
    pressed = console.post("/console/runs/reconcile", page="/console/runs")
    assert "due now" in text_of(console, pressed.headers["Location"])


@pytest.mark.usefixtures("ledger_of_events")
def test_events_page_is_at_the_address_that_names_it(console: Browser) -> None:
    """CON-16"""
    assert "evt_005" in text_of(console, "/console/events/evt_005")


@pytest.mark.parametrize(
    "path", ["event?id=evt_nowhere", "events/evt_nowhere", "event", "replay?id=9", "replay?id=x", "replay"]
)
def test_what_is_not_there_is_a_page_that_says_so(console: Browser, path: str) -> None:
    assert console.get(f"/console/{path}").status_code == 404


def test_time_of_a_filter_is_fixed_once_it_was_counted() -> None:
    asked = read_asked({"type": "a.*", "since": "24h"})
    assert asked.options() == ["--type", "a.*", "--since", "24h"]
    fixed = read_asked(asked.fields(NOON))
    assert fixed.options() == ["--type", "a.*", "--since", "2026-05-31T12:00:00Z"]
    assert fixed.events(NOON + timedelta(days=9)) == asked.events(NOON)
    assert read_asked({"since": "all"}).events(NOON).since is None
    with pytest.raises(InvalidRequest):
        read_asked({"since": "2026-06-01"}).events(NOON)
