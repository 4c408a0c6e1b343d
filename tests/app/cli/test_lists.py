"""Every list takes the same options, fits 80 columns and shows no JSON; every command that mends speaks JSON, too."""

import importlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from app.cli import COMMANDS
from app.cli.options import listed
from billing.database import Database
from billing.models import (
    audit,
    checkouts,
    customers,
    events,
    incidents,
    lanes,
    operations,
    outbox,
    remedies,
    replayed_events,
    replays,
)
from tests.support.ports import own_port
from tests.support.running_dev import ROOT

# Of each list, what tells one row from another in its JSON.
LISTS = {
    "checkouts list": "id",
    "operations list": "id",
    "events list": "event_id",
    "events failures": "newest",
    "events replays": "id",
    "dead list": "event_id",
    "incidents list": "id",
    "notifications list": "message_id",
    "audit list": "target",
    "locks list": "lane",
}
# These speak to people only: they run until they are stopped, write files, or print what is one text already.
SILENT = {"init", "dev", "web", "worker", "beat", "sandbox", "token", "openapi", "settings", "bench"}
LONG = "It cannot be done, and this is said at length, since Stripe's sentences are long, too. " * 3


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its words, groups opened."""
    for name, place in COMMANDS.items():
        module, _, attribute = place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        inner = found.commands if isinstance(found, click.Group) else None
        yield from ((f"{name} {word}", one) for word, one in inner.items()) if inner else [(name, found)]


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_list_has_the_same_options() -> None:
    """OPS-189: from one place, so that a new list has them too."""

    @click.command
    @listed
    def bare() -> None:
        """Have what every list has."""

    shared = {parameter.name: parameter.to_info_dict() for parameter in bare.params}
    assert {parameter.name for parameter in bare.params} == {"customer_id", "since", "limit", "as_json"}
    found = {words: command for words, command in commands() if words.split()[-1] == "list" or words in LISTS}
    assert set(found) == set(LISTS)
    for words, command in found.items():
        own = {parameter.name: parameter.to_info_dict() for parameter in command.params}
        assert {name: own.get(name) for name in shared} == shared, words


def test_every_command_speaks_json() -> None:
    """OPS-190"""
    assert {words for words, command in commands() if "--json" not in options_of(command)} == SILENT


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command on the ledger, and give back what it prints."""
    address = database.url.render_as_string(hide_password=False)
    given = {"DATABASE_URL": address, "REDIS_URL": f"redis://127.0.0.1:{own_port()}/0"}
    given["CATALOG"] = str(ROOT / "catalog.toml")
    known = dict(commands())

    def call(words: str, *more: str) -> str:
        done = CliRunner().invoke(known[words], more, env={**os.environ, **given, "COLUMNS": "80"})
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


@pytest.fixture
def ledger(database: Database) -> None:
    """Two users, and of each whatever a list shows: an hour old, and three days."""
    now = datetime.now(UTC).replace(microsecond=0)
    with database.write() as connection:
        for number, (user, hours) in enumerate(((user, hours) for user in ("ann", "bob") for hours in (1, 72)), 1):
            at = now - timedelta(hours=hours)
            if hours == 1:
                own = {"user_id": user, "customer_id": f"cus_{user}", "idempotency_key": user, "parameters": {}}
                connection.execute(sa.insert(customers).values(**own, created_at=at))
            _put(connection, number, user, f"cus_{user}", at)


def _put(connection: sa.Connection, number: int, user: str, customer_id: str, at: datetime) -> None:
    event_id, error = f"evt_{number}Qabcdefghijklmnopqrstuv", {"code": "stripe_refused", "detail": LONG}
    lane = {"id": number, "user_id": user, "product": f"product_{number}", "state": "closed"}
    checkout = {
        "id": f"chk_{number}", "lane_id": number, "user_id": user, "number": 1, "plan": "standard", "error": error,
        "price_id": "price_1", "request": {}, "fingerprint": "f", "status": "pending", "body_hash": "h",
        "arrived_at": at,
    }  # fmt: skip
    operation = {
        "id": f"op_{number}", "lane_id": number, "user_id": user, "number": 2, "kind": "cancel", "request": {},
        "body_hash": "h", "status": "failed", "sent": [], "error": error, "arrived_at": at,
    }  # fmt: skip
    event = {
        "id": number, "livemode": False, "event_id": event_id, "type": "customer.subscription.updated",
        "customer_id": customer_id, "status": "dead", "attempts": 20, "error": f"{'x' * number}: {LONG}",
        "next_attempt_at": at, "created_at": at, "received_at": at,
    }  # fmt: skip
    replay = {
        "id": number, "reason": LONG, "filter": {"types": ["invoice.*", "customer.*"], "status": "dead"},
        "state": "finished", "counted": 1, "replayed": 1, "started_at": at, "alive_until": at,
    }  # fmt: skip
    set_back = {"event_row_id": number, "replay_id": number, "was_status": "done", "replayed_at": at}
    incident = {
        "id": number, "customer_id": customer_id, "product": f"product_{number}", "kind": "duplicate_subscription",
        "detail": {"subscriptions": ["sub_1Qabcdefghijklmnopqrst", "sub_2Qabcdefghijklmnopqrst"]}, "opened_at": at,
        "reason": LONG,
    }  # fmt: skip
    remedy = {
        "incident_id": number, "customer_id": customer_id, "product": "p", "subscription_id": "sub_1", "kept_id": "sub",
        "nonce": str(number), "refund_key": str(number), "state": "canceled", "error": LONG, "created_at": at,
    }  # fmt: skip
    message = {
        "message_id": f"msg_{number}", "customer_id": customer_id, "kind": "subscription.activated", "payload": {},
        "status": "dead", "error": LONG, "attempts": 9, "created_at": at, "next_attempt_at": at,
    }  # fmt: skip
    wrote = {"at": at, "who": "ann@host", "command": "events replay", "reason": LONG, "outcome": LONG}
    # By a filter's last words, an event, the id alone and a checkout: whichever it is, it is about the user.
    target = (f"type a.*; customer {user}", event_id, user, f"chk_{number}")[number - 1]
    rows = {lanes: lane, checkouts: checkout, operations: operation, events: event, replays: replay,
            replayed_events: set_back, incidents: incident, remedies: remedy, outbox: message,
            audit: wrote | {"target": target}}  # fmt: skip
    for table, values in rows.items():
        connection.execute(sa.insert(table).values(values))


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("words", LISTS)
def test_list_is_of_a_customer_since_a_time_and_so_long(words: str, run: Any) -> None:
    """OPS-189, OPS-187"""

    def found(*options: str) -> list[Any]:
        return [row[LISTS[words]] for row in json.loads(run(words, "--json", *options))]

    everything = found()
    assert len(set(everything)) == 4, everything
    of_ann = found("--customer", "ann")
    assert len(of_ann) == 2
    assert found("--customer", "cus_ann") == of_ann
    assert set(found("--customer", "bob")) == set(everything) - set(of_ann)
    assert found("--customer", "an") == []
    young = found("--since", "24h")
    assert len(young) == 2
    assert found("--since", "24h", "--customer", "ann") == [one for one in of_ann if one in young]
    assert found("--limit", "3") == everything[:3]
    text = run(words)
    assert max(map(len, text.splitlines())) <= 80, text
    assert not set(text) & set("{}[]"), text
