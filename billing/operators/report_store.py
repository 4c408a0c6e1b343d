"""SQL of the reports: what the command line lists and shows. Reads only, newest first.

No column here is a secret: session addresses are left out, payloads only on request.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from billing.models import checkouts, customers, events, incidents, installation, remedies, replayed_events, replays

Row = sa.RowMapping

_EVENT_COLUMNS = (
    events.c.event_id,
    events.c.type,
    events.c.status,
    events.c.attempts,
    events.c.customer_id,
    events.c.received_at,
    events.c.error,
)
_CHECKOUT_COLUMNS = (
    checkouts.c.id,
    checkouts.c.user_id,
    checkouts.c.plan,
    checkouts.c.status,
    checkouts.c.arrived_at,
    checkouts.c.answered_at,
)
_INCIDENT_COLUMNS = (
    incidents.c.id,
    incidents.c.kind,
    incidents.c.customer_id,
    incidents.c.product,
    incidents.c.detail,
    incidents.c.opened_at,
    incidents.c.resolved_at,
    incidents.c.reason,
)


def list_events(connection: sa.Connection, *, status: str | None, type_: str | None, limit: int) -> list[Row]:
    """The newest events, of a status or a type where one is named."""
    query = sa.select(*_EVENT_COLUMNS).order_by(events.c.id.desc()).limit(limit)
    if status:
        query = query.where(events.c.status == status)
    if type_:
        query = query.where(events.c.type == type_)
    return [row._mapping for row in connection.execute(query)]


def find_event(connection: sa.Connection, event_id: str) -> Row | None:
    """One event by Stripe's id, the newest delivery of it."""
    query = sa.select(events).where(events.c.event_id == event_id).order_by(events.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return row._mapping if row else None


def list_replays_of(connection: sa.Connection, event_row_id: int) -> list[Row]:
    """The replays that set an event back, in order, with what it was before."""
    columns = [replayed_events.c[name] for name in ("replay_id", "replayed_at", "was_status", "was_error")]
    query = sa.select(*columns, replays.c.reason).join(replays, replays.c.id == replayed_events.c.replay_id)
    query = query.where(replayed_events.c.event_row_id == event_row_id).order_by(replayed_events.c.replay_id)
    return [row._mapping for row in connection.execute(query)]


def list_replays(connection: sa.Connection, *, limit: int) -> list[Row]:
    """The newest replays."""
    columns = [column for column in replays.c if column.name != "alive_until"]
    query = sa.select(*columns).order_by(replays.c.id.desc()).limit(limit)
    return [row._mapping for row in connection.execute(query)]


def list_checkouts(connection: sa.Connection, *, status: str | None, user_id: str | None, limit: int) -> list[Row]:
    """The newest checkouts, of a status or a user where one is named."""
    query = sa.select(*_CHECKOUT_COLUMNS).order_by(checkouts.c.arrived_at.desc(), checkouts.c.number.desc())
    if status:
        query = query.where(checkouts.c.status == status)
    if user_id:
        query = query.where(checkouts.c.user_id == user_id)
    return [row._mapping for row in connection.execute(query.limit(limit))]


def find_checkout(connection: sa.Connection, checkout_id: str) -> Row | None:
    """One checkout."""
    columns = (*_CHECKOUT_COLUMNS, checkouts.c.number, checkouts.c.nonce, checkouts.c.reused, checkouts.c.error)
    row = connection.execute(sa.select(*columns).where(checkouts.c.id == checkout_id)).first()
    return row._mapping if row else None


def list_incidents(connection: sa.Connection, *, everything: bool, limit: int) -> list[Row]:
    """The newest incidents; those that are still open unless everything is asked for."""
    query = sa.select(*_INCIDENT_COLUMNS).order_by(incidents.c.id.desc()).limit(limit)
    if not everything:
        query = query.where(incidents.c.resolved_at.is_(None))
    return [row._mapping for row in connection.execute(query)]


def list_remedies(connection: sa.Connection, incident_ids: Sequence[int]) -> list[Row]:
    """What was done about these incidents, in order."""
    columns = [remedies.c[name] for name in ("incident_id", "subscription_id", "kept_id", "state", "error")]
    query = sa.select(*columns).where(remedies.c.incident_id.in_(incident_ids)).order_by(remedies.c.id)
    return [row._mapping for row in connection.execute(query)]


def find_customer_of(connection: sa.Connection, user_id: str) -> str | None:
    """The user's Stripe customer."""
    return connection.scalar(sa.select(customers.c.customer_id).where(customers.c.user_id == user_id))


def was_erased(connection: sa.Connection, user_id: str) -> bool:
    """Whether this user was erased."""
    gone = sa.exists().where(customers.c.user_id == user_id, customers.c.erased_at.is_not(None))
    return bool(connection.scalar(sa.select(gone)))


def find_user_of(connection: sa.Connection, customer_id: str) -> str | None:
    """Whose the Stripe customer is."""
    return connection.scalar(sa.select(customers.c.user_id).where(customers.c.customer_id == customer_id))


def find_installation(connection: sa.Connection) -> Row | None:
    """The Stripe account that this ledger is bound to."""
    row = connection.execute(sa.select(installation.c.stripe_account, installation.c.livemode)).first()
    return row._mapping if row else None
