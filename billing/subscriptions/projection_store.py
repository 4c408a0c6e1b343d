"""SQL of the projection: Stripe's state as last fetched, the outbox, and incidents.

`advance` is the gate (LED-5): a fetch is written only while the generation is still the one that was read before it.
The row that `advance` locks keeps the customer's other writers out until the transaction ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new, upsert
from billing.models import RemedyState, attempts, incidents, outbox, projections, remedies, subscriptions
from billing.rules.ids import new_id
from billing.subscriptions.projection import ENDED, Subscription
from billing.subscriptions.troubles import DUPLICATE, KINDS, Trouble

_COLUMNS = [subscriptions.c[name] for name in Subscription.__slots__]
_OLDEST_FIRST = (subscriptions.c.created_at, subscriptions.c.subscription_id)
_PROJECTION = (  # built once: that takes longer than to run it
    sa.select(projections.c.generation, *_COLUMNS)
    .outerjoin_from(projections, subscriptions)
    .where(projections.c.customer_id == sa.bindparam("customer"))
    .order_by(*_OLDEST_FIRST)
)


def read_projection(connection: sa.Connection, customer_id: str) -> tuple[int | None, Sequence[Subscription]]:
    """The customer's generation, which each sync raises by one, and the subscriptions as that sync wrote them.

    None before the first sync. One statement, so both are of the same moment.
    """
    rows = connection.execute(_PROJECTION, {"customer": customer_id}).all()
    generation: int | None = rows[0].generation if rows else None
    return generation, [Subscription(*row[1:]) for row in rows if row.subscription_id is not None]


def advance(
    connection: sa.Connection, customer_id: str, *, generation: int | None, deleted: bool | None, now: datetime
) -> bool:
    """Raise the generation by compare-and-set; False when another sync was written since it was read: fetch again."""
    values: dict[str, Any] = {"synced_at": now} if deleted is None else {"synced_at": now, "deleted": deleted}
    if generation is None:
        return insert_new(connection, projections, {"customer_id": customer_id, "generation": 1, **values})
    same = sa.update(projections).where(
        projections.c.customer_id == customer_id, projections.c.generation == generation
    )
    return connection.execute(same.values(generation=generation + 1, **values)).rowcount == 1


def read_subscriptions(connection: sa.Connection, customer_id: str) -> Sequence[Subscription]:
    """The customer's subscriptions as last fetched, oldest first."""
    rows = sa.select(*_COLUMNS).where(subscriptions.c.customer_id == customer_id)
    return [Subscription(*row) for row in connection.execute(rows.order_by(*_OLDEST_FIRST))]


def replace_subscriptions(
    connection: sa.Connection, before: Iterable[Subscription], after: Iterable[Subscription]
) -> None:
    """Replace the rows `before` by the rows `after`; rows that are equal are not written."""
    kept = {(row, row.nonce, row.frozen_at) for row in before}
    after = list(after)
    gone = {row.subscription_id for row, *_ in kept} - {row.subscription_id for row in after}
    if gone:
        connection.execute(sa.delete(subscriptions).where(subscriptions.c.subscription_id.in_(gone)))
    changed = [row for row in after if (row, row.nonce, row.frozen_at) not in kept]
    upsert(
        connection, subscriptions, [{name: getattr(row, name) for name in Subscription.__slots__} for row in changed]
    )


def note_change(
    connection: sa.Connection, *, customer_id: str, kind: str, payload: dict[str, Any], now: datetime
) -> None:
    """Write a change to the outbox; it is sent after this transaction's commit."""
    message = {
        "message_id": new_id("msg"),
        "customer_id": customer_id,
        "kind": kind,
        "payload": payload,
        "status": "pending",
        "created_at": now,
        "next_attempt_at": now,
    }
    connection.execute(sa.insert(outbox).values(message))


def note_session(connection: sa.Connection, session_id: str, outcome: str) -> None:
    """Note the outcome of an attempt's session, as Stripe answered it, and forget its page's address.

    Only the checkout protocol writes lanes.
    """
    own = sa.update(attempts).where(attempts.c.session_id == session_id, attempts.c.outcome.is_(None))
    connection.execute(own.values(outcome=outcome, url=None))


# --- incidents


def update_open(kind: str, *, customer_id: str, product: str) -> sa.Update:
    """The UPDATE of the open incident of this kind, if there is one."""
    return _open(customer_id=customer_id, product=product).where(incidents.c.kind == kind)


def _open(*, customer_id: str, product: str) -> sa.Update:
    return sa.update(incidents).where(
        incidents.c.customer_id == customer_id, incidents.c.product == product, incidents.c.resolved_at.is_(None)
    )


def note_troubles(
    connection: sa.Connection, found: Sequence[Trouble], *, customer_id: str, product: str, now: datetime
) -> tuple[Mapping[str, int], Sequence[Trouble]]:
    """Keep one open incident for each trouble while it lasts (SUB-8): their ids by kind, and those that are new."""
    about = {"customer_id": customer_id, "product": product}
    over = [kind for kind in KINDS if kind not in {trouble.kind for trouble in found}]
    ids: dict[str, int] = {}
    if DUPLICATE in over:  # it is over when the money is back, too
        over.remove(DUPLICATE)
        still_open = resolve_if_over(connection, **about, now=now)
        ids |= {DUPLICATE: still_open} if still_open is not None else {}
    connection.execute(_open(**about).where(incidents.c.kind.in_(over)).values(resolved_at=now))
    opened = []
    for trouble in found:
        values: dict[str, Any] = {"detail": {"subscriptions": list(trouble.subscriptions)}}
        if trouble.next_step:
            values["reason"] = trouble.next_step
        update = update_open(trouble.kind, **about).values(values).returning(incidents.c.id)
        known = connection.scalar(update)
        if known is None:
            if insert_new(connection, incidents, {**about, **values, "kind": trouble.kind, "opened_at": now}):
                opened.append(trouble)
            known = connection.scalar(update)
        if known is not None:
            ids[trouble.kind] = known
    return ids, opened


def resolve_if_over(connection: sa.Connection, *, customer_id: str, product: str, now: datetime) -> int | None:
    """Resolve the incident about duplicates once one is live and the money of the others is back; its id while open."""
    mine = (subscriptions.c.customer_id == customer_id, subscriptions.c.product == product)
    live = sa.select(sa.func.count()).where(*mine, subscriptions.c.status.not_in(ENDED)).scalar_subquery()
    owed = (RemedyState.PLANNED, RemedyState.CANCELED)
    begun = sa.exists().where(
        remedies.c.customer_id == customer_id, remedies.c.product == product, remedies.c.state.in_(owed)
    )
    ours = update_open(DUPLICATE, customer_id=customer_id, product=product)
    connection.execute(ours.where(live < 2, ~begun).values(resolved_at=now))
    same = (incidents.c.customer_id == customer_id, incidents.c.product == product, incidents.c.kind == DUPLICATE)
    return connection.scalar(sa.select(incidents.c.id).where(*same, incidents.c.resolved_at.is_(None)))


def count_open_incidents(connection: sa.Connection) -> int:
    still = sa.select(sa.func.count()).select_from(incidents).where(incidents.c.resolved_at.is_(None))
    return int(connection.scalar(still) or 0)
