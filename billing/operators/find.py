"""Find: what an id is, and whose. Any id that a log, a buyer or Stripe's Dashboard shows. Reads the ledger only."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from billing.database import Database
from billing.models import (
    EventStatus,
    attempts,
    checkouts,
    customers,
    events,
    incidents,
    lanes,
    operations,
    outbox,
    product_trials,
    subscriptions,
)
from billing.webhooks.event_search import has_id

MOST = 20  # hits of one kind
_EMAIL_HASH = re.compile(r"[0-9a-f]{64}")
_PAGE = 1000  # users whose emails are read at a time


@dataclass(frozen=True, slots=True)
class Hit:
    """One row of the ledger: its `kind`, and the user and Stripe customer whose it is, where that is known."""

    kind: str
    id: str
    user_id: str | None
    customer_id: str | None


def find(text: str, *, database: Database) -> list[Hit]:
    """Every row that the id names, at most MOST of a kind; an empty list where there is none.

    Takes a user's id, an id of Stripe's (`cus_`, `sub_`, `cs_`, `evt_`, `in_`, any other object's, `req_`), one of ours
    (`chk_`, `op_`, `msg_`), or the SHA-256 of an email in lower case, as 64 hexadecimal digits. Raises
    LedgerUnavailable.
    """
    with database.read() as connection:
        found = [Hit(*row) for query in _queries(text) for row in connection.execute(query.limit(MOST))]
        if _EMAIL_HASH.fullmatch(text.lower()):
            found += list(_by_email(connection, text.lower()))
    return list(dict.fromkeys(found))


def _queries(text: str) -> Iterator[sa.Select[Any]]:
    users = sa.select(sa.literal("user"), customers.c.user_id, customers.c.user_id, customers.c.customer_id)
    yield users.where(sa.or_(customers.c.user_id == text, customers.c.customer_id == text))
    trial = product_trials.c.user_id  # a user who only tried the product has no other row
    yield sa.select(sa.literal("user"), trial, trial, sa.null()).where(
        trial == text, ~sa.exists().where(customers.c.user_id == text)
    )
    checkout = _of_lane("checkout", checkouts.c.id, checkouts)
    yield checkout.where(checkouts.c.id == text)
    # By the lane, too: it is what checkouts have an index of.
    answered = sa.and_(attempts.c.lane_id == checkouts.c.lane_id, attempts.c.nonce == checkouts.c.nonce)
    yield checkout.join(attempts, answered).where(attempts.c.session_id == text)
    session = _of_lane("session", attempts.c.session_id, attempts)
    yield session.where(attempts.c.session_id == text)
    operation = _of_lane("operation", operations.c.id, operations)
    yield operation.where(sa.or_(operations.c.id == text, operations.c.subscription_id == text))
    yield _of_customer("subscription", subscriptions.c.subscription_id, subscriptions).where(
        subscriptions.c.subscription_id == text
    )
    yield _of_customer("notification", outbox.c.message_id, outbox).where(outbox.c.message_id == text)
    event = _of_customer("event", events.c.event_id, events)
    yield event.where(has_id(text))
    finished = events.c.status != sa.literal_column(f"'{EventStatus.PENDING}'")  # as ix_events_object_id has it
    for status in (finished, ~finished):
        yield event.where(events.c.object_id == text, status).order_by(events.c.id.desc())
    if text.startswith("req_"):  # Stripe's sentence about a refusal ends with the request's id
        said = {"autoescape": True}
        yield event.where(events.c.error.contains(text, **said))
        yield _of_customer("incident", sa.cast(incidents.c.id, sa.String), incidents).where(
            incidents.c.reason.contains(text, **said)
        )
        yield checkout.where(sa.cast(checkouts.c.error, sa.Text).contains(text, **said))
        yield operation.where(sa.cast(operations.c.error, sa.Text).contains(text, **said))


def _of_lane(kind: str, id_: sa.ColumnElement[Any], table: sa.Table) -> sa.Select[Any]:
    query = sa.select(sa.literal(kind), id_, lanes.c.user_id, customers.c.customer_id).select_from(table)
    return query.join(lanes, lanes.c.id == table.c.lane_id).join(customers, customers.c.user_id == lanes.c.user_id)


def _of_customer(kind: str, id_: sa.ColumnElement[Any], table: sa.Table) -> sa.Select[Any]:
    query = sa.select(sa.literal(kind), id_, customers.c.user_id, table.c.customer_id).select_from(table)
    return query.outerjoin(customers, customers.c.customer_id == table.c.customer_id)


def _by_email(connection: sa.Connection, digest: str) -> Iterator[Hit]:
    """Users by the hash of their email, which only the ledger has. Reads every user: 100,000 take about a second."""
    columns = (customers.c.user_id, customers.c.customer_id, customers.c.parameters["email"].as_string())
    last = ""
    while rows := connection.execute(
        sa.select(*columns).where(customers.c.user_id > last).order_by(customers.c.user_id).limit(_PAGE)
    ).all():
        for user_id, customer_id, email in rows:
            if email and hashlib.sha256(email.lower().encode()).hexdigest() == digest:
                yield Hit("user", user_id, user_id, customer_id)
        last = rows[-1].user_id
