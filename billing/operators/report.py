"""Reports: what an operator may look at, as plain dicts, short and without secrets."""

import json
from typing import Any

from billing.database import Database
from billing.errors import NotFound
from billing.operators import report_store

Row = dict[str, Any]


def list_events(*, database: Database, status: str | None = None, type_: str | None = None, limit: int) -> list[Row]:
    """The newest events."""
    with database.read() as connection:
        return [dict(row) for row in report_store.list_events(connection, status=status, type_=type_, limit=limit)]


def show_event(event_id: str, *, database: Database, payload: bool = False) -> Row:
    """One event and its replays; what it carried only when asked for, since it is personal. Raises NotFound."""
    with database.read() as connection:
        found = report_store.find_event(connection, event_id)
        replays = report_store.list_replays_of(connection, found["id"]) if found else []
    if found is None:
        raise NotFound("event")
    row = {name: value for name, value in found.items() if name not in ("payload", "claim")}
    row["replays"] = [dict(replay) for replay in replays]
    if payload:
        kept = found["payload"]
        row["payload"] = None if kept is None else _json_or_text(bytes(kept))
    return row


def list_replays(*, database: Database, limit: int) -> list[Row]:
    """The newest replays: why, of what, and how far they came."""
    with database.read() as connection:
        return [dict(row) for row in report_store.list_replays(connection, limit=limit)]


def list_checkouts(
    *, database: Database, status: str | None = None, user_id: str | None = None, limit: int
) -> list[Row]:
    """The newest checkouts."""
    with database.read() as connection:
        rows = report_store.list_checkouts(connection, status=status, user_id=user_id, limit=limit)
        return [dict(row) for row in rows]


def show_checkout(checkout_id: str, *, database: Database) -> Row:
    """One checkout, never its url. Raises NotFound."""
    with database.read() as connection:
        found = report_store.find_checkout(connection, checkout_id)
    if found is None:
        raise NotFound("checkout")
    return dict(found)


def list_incidents(*, database: Database, everything: bool = False, limit: int) -> list[Row]:
    """The newest incidents that are open, or all of them, each with what was done about it."""
    with database.read() as connection:
        rows = [dict(row) for row in report_store.list_incidents(connection, everything=everything, limit=limit)]
        done = report_store.list_remedies(connection, [row["id"] for row in rows])
    for row in rows:
        row["remedies"] = [
            {name: value for name, value in remedy.items() if name != "incident_id"}
            for remedy in done
            if remedy["incident_id"] == row["id"]
        ]
    return rows


def customer_problem(user_id: str, customer_id: str, *, database: Database) -> str | None:
    """Why this pair could not be claimed, for a dry run; None when it could."""
    with database.read() as connection:
        theirs = report_store.find_customer_of(connection, user_id)
        owner = report_store.find_user_of(connection, customer_id)
        erased = report_store.was_erased(connection, user_id)
    if erased:
        return "this user was erased"
    if theirs is not None and theirs != customer_id:
        return "this user already has another Stripe customer"
    if owner is not None and owner != user_id:
        return "this Stripe customer already belongs to another user"
    return None


def bound_account(*, database: Database) -> tuple[str, bool] | None:
    """The Stripe account and mode that the ledger belongs to; None before the first worker."""
    with database.read() as connection:
        found = report_store.find_installation(connection)
    return (found["stripe_account"], found["livemode"]) if found else None


def _json_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
