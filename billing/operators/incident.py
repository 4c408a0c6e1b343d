"""One incident, as a person sees it, and the two ways in which they end it.

`resolve_incident`: they have finished by hand what it asked of them. `keep_one`: of several subscriptions they say
which one stays. A worker then cancels and refunds the others by the remedy, as DUPLICATE_POLICY=cancel_newest does.
"""

from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from billing.catalog import Catalog
from billing.clock import Clock
from billing.coordination.jobs import RemedyDuplicates
from billing.coordination.queue import Queue
from billing.customers.store import find_owner
from billing.database import Database
from billing.duplicates import store as duplicates_store
from billing.errors import NotFound, PermanentError
from billing.models import RemedyState, incidents, remedies, repayments
from billing.operators.customer import dashboard_of, describe_subscription
from billing.operators.listing import Row, first_of, rows_of
from billing.rules.money import in_words
from billing.subscriptions.projection import is_live
from billing.subscriptions.projection_store import read_subscriptions
from billing.subscriptions.troubles import DUPLICATE

log = structlog.get_logger(__name__)

_REMEDY = ("subscription_id", "kept_id", "state", "error", "created_at", "finished_at")
_REPAYMENT = ("amount", "currency", "kind", "status", "stripe_id", "error", "created_at")


class NoChoice(PermanentError):
    """The subscription cannot be the one that stays. The sentence says why, and what there is."""

    code = "no_choice"


def show_incident(incident_id: int, *, database: Database, catalog: Catalog) -> Row:
    """The incident with its subscriptions as last fetched, its remedies, and what was given back.

    `next` are the commands that end it. Raises NotFound and LedgerUnavailable.
    """
    with database.read() as connection:
        row = first_of(connection, sa.select(incidents).where(incidents.c.id == incident_id))
        if row is None:
            raise NotFound("incident")
        owner = find_owner(connection, row["customer_id"])
        dashboard = dashboard_of(connection)
        known = read_subscriptions(connection, row["customer_id"])
        named = set(row["detail"].get("subscriptions") or ())
        shown = [describe_subscription(one, None, catalog, dashboard) for one in known if one.subscription_id in named]
        theirs = sa.select(remedies).where(remedies.c.incident_id == incident_id).order_by(remedies.c.id)
        planned = rows_of(connection, theirs)
        given_back = _given_back(connection, [one["id"] for one in planned])
    live = [one.subscription_id for one in known if one.subscription_id in named and is_live(one.status)]
    chosen = row["chosen"] or {}
    return {
        **{name: row[name] for name in ("id", "kind", "customer_id")},
        "user_id": owner.user_id if owner else None,
        **{name: row[name] for name in ("opened_at", "resolved_at", "reason")},
        "kept_by_choice": chosen.get("keep"),
        "subscriptions": shown,
        "remedies": [{name: one[name] for name in _REMEDY} for one in planned],
        "given_back": given_back,
        "next": list(_next(row, live)),
    }


def keep_one(
    incident_id: int, kept_id: str, *, database: Database, queue: Queue, clock: Clock, dry_run: bool = False
) -> Sequence[str]:
    """Have a worker cancel and refund all but this one; the ids of those. They are the ones that are live now.

    One that comes later is not canceled by this choice. Raises NotFound where there is no such open incident about
    duplicates, and NoChoice.
    """
    with database.write() as connection:
        own = sa.select(incidents).where(
            incidents.c.id == incident_id, incidents.c.kind == DUPLICATE, incidents.c.resolved_at.is_(None)
        )
        row = connection.execute(own).first()
        incident = duplicates_store.read_incident(connection, incident_id)
        if row is None or incident is None:
            raise NotFound("open incident about duplicates")
        known = read_subscriptions(connection, row.customer_id)
        live = [one.subscription_id for one in known if one.product == row.product and is_live(one.status)]
        before = duplicates_store.find_kept(connection, incident) & set(live)
        if kept_id not in live:
            raise NoChoice(f"{kept_id} is not live and of this customer. There are {', '.join(live) or 'none'}.")
        if before - {kept_id}:
            raise NoChoice(
                f"{', '.join(sorted(before))} was to stay before, and a cancellation in its favor may be on its way."
                " Keep it, or cancel at Stripe what should not go on."
            )
        others = [id_ for id_ in live if id_ != kept_id]
        if not others:
            raise NoChoice(f"{kept_id} is the only one that is live. Have the customer compared with Stripe.")
        if not dry_run:
            choice = {"keep": kept_id, "cancel": others}
            chosen = sa.update(incidents).where(incidents.c.id == incident_id)
            connection.execute(chosen.values(chosen=choice, failures=0, next_attempt_at=None))
    if not dry_run:
        queue.send(RemedyDuplicates(incident_id))
        log.info("incident.choice_made", incident_id=incident_id, keep=kept_id, cancel=others)
    return others


def resolve_incident(incident_id: int, *, reason: str, database: Database, clock: Clock) -> None:
    """Resolve an open incident, and end what its remedies could not give back by themselves (SUB-116).

    What still is so at the next sync is an incident again. Raises NotFound when there is no such open incident.
    """
    now = clock.now()
    own = sa.update(incidents).where(incidents.c.id == incident_id, incidents.c.resolved_at.is_(None))
    with database.write() as connection:
        columns = (incidents.c.customer_id, incidents.c.product, incidents.c.kind)
        row = connection.execute(own.values(resolved_at=now, reason=reason).returning(*columns)).first()
        if row is None:
            raise NotFound("open incident")
        theirs = sa.update(remedies).where(
            remedies.c.customer_id == row.customer_id,
            remedies.c.product == row.product,
            remedies.c.state == RemedyState.CANCELED,
        )
        if row.kind == DUPLICATE:
            connection.execute(theirs.values(state=RemedyState.BY_PERSON, finished_at=now))
    log.warning("incident.resolved", incident_id=incident_id, reason=reason)


def _given_back(connection: sa.Connection, remedy_ids: Sequence[int]) -> list[Row]:
    columns = [repayments.c[name] for name in _REPAYMENT]
    query = sa.select(remedies.c.subscription_id, *columns).join(remedies, remedies.c.id == repayments.c.remedy_id)
    query = query.where(repayments.c.remedy_id.in_(remedy_ids)).order_by(repayments.c.id)
    found = rows_of(connection, query)
    for row in found:
        row["amount"] = in_words(row["amount"], row.pop("currency"))
    return found


def _next(row: Row, live: Sequence[str]) -> list[str]:
    """The command lines that end it, for a person to choose from."""
    if row["resolved_at"] is not None:
        return []
    resolve = f"onelane incidents resolve {row['id']}"
    keep = [f"{resolve} --keep {id_} --reason ..." for id_ in live] if row["kind"] == DUPLICATE else []
    if keep and not row["chosen"]:
        return [*keep, f"{resolve} --reason ...  (where all of it was done by hand)"]
    return [f"{resolve} --reason ...  (where what it asks was done by hand)"]
