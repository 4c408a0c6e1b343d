"""Verify at Stripe: read a customer's sessions and subscriptions, and expire the orphaned sessions among them.

It runs before every creation (step 3) and before every answer (steps 7, 7s and 8). Everything is read side by side.
A status only moves from open to complete or expired, so of two readings the more advanced one is the newer.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from billing.catalog import Catalog
from billing.checkout.rules import LOOK_BACK, orphaned_sessions
from billing.errors import StripeMissing, StripeRefused, StripeUnclear
from billing.rules.product_tag import is_tagged
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.projection import begins_ours, belongs, has_begun, is_live

Json = dict[str, Any]
Owned = tuple[str | None, str | None]  # the nonce and the session id of a lane's live attempt


class Ended(StrEnum):
    """How an expire ended: what Stripe says the session is now."""

    EXPIRED = "expired"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why this customer must not buy now: a live subscription, or a paid session that will become one."""

    code: str  # already_subscribed | payment_in_progress
    subscription_id: str | None
    status: str | None  # Stripe's; of one that is planned to begin later, its schedule's


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Stripe says: tagged sessions by id, what blocks, and the product's subscriptions that once began."""

    sessions: Mapping[str, Json]
    blocker: Blocker | None
    begun: Collection[str]


def verify(
    customer_id: str,
    *,
    recorded: Iterable[str],
    owned: Callable[[], Owned],
    stripe: StripeGateway,
    catalog: Catalog,
    owned_before: Owned = (None, None),
    with_planned: bool = False,
) -> Verdict:
    """Read everything that could bill this customer twice, and expire orphaned sessions.

    `recorded` are the ids of our own recent sessions. Lists promise no read-after-write, so these are fetched by id.
    `owned` reads the nonce and the session id of the lane's live attempt, after the lists were read (LAN-5). Read
    before them, it would miss a session that another worker has just opened.
    `owned_before` is the same as this pass read it first. Where only that session is open, `owned` is not needed. If
    the lane has moved on, its own steps close that session, and this pass loses its compare-and-set.
    `with_planned`: whether to look for subscriptions, too, that a schedule begins later (CHK-41).

    Raises the gateway's errors; nothing may be created after one.
    """
    sessions, subscriptions, planned = _read(
        customer_id, recorded=recorded, stripe=stripe, product=catalog.product, with_planned=with_planned
    )
    orphaned = orphaned_sessions(sessions.values(), owned=owned_before)
    if orphaned:
        orphaned = orphaned_sessions(sessions.values(), owned=owned())
    for session in orphaned:
        _expire_orphaned(session["id"], sessions, stripe=stripe)
    tagged = {id_: subscription for id_, subscription in subscriptions.items() if belongs(subscription, catalog)}
    ours = tagged | _subscriptions_of(sessions.values(), subscriptions, stripe=stripe)
    return Verdict(
        sessions=sessions,
        blocker=_blocker(sessions.values(), ours) or _planned(planned, catalog),
        begun=[id_ for id_, subscription in ours.items() if has_begun(subscription["status"])],
    )


def never_billed(begun: Collection[str], *, stripe: StripeGateway) -> bool:
    """Whether none of these subscriptions used up a first-time coupon (CHK-11): what a trial costs is nothing.

    The subtotal is before discounts: a first month for nothing counts.
    """
    billed = stripe.in_parallel(*[partial(stripe.list_invoices, id_) for id_ in begun])
    return not any(_counts(invoice) for invoices in billed for invoice in invoices)


def _counts(invoice: Json) -> bool:
    """Paid, or what a subscription began with: else each first debit that bounces brings the coupon again.

    After a trial the first invoice with an amount is a later one. A void invoice was never meant.
    """
    began = invoice.get("billing_reason") == "subscription_create" and invoice.get("status") not in ("draft", "void")
    return (invoice.get("subtotal") or 0) > 0 and (began or invoice.get("status") == "paid")


def expire(session_id: str, *, stripe: StripeGateway) -> Ended:
    """Expire a session and say what it is now. A refusal is judged by the session, never by its text (LAN-8).

    Raises StripeUnclear when Stripe refuses although the session is still open.
    """
    try:
        stripe.expire_session(session_id)
    except StripeMissing:
        return Ended.EXPIRED  # there is no such session, so it cannot be paid
    except StripeRefused as refused:
        status = stripe.get_session(session_id)["status"]
        if status not in (Ended.EXPIRED, Ended.COMPLETE):
            raise StripeUnclear("Stripe does not expire a session that is still open. Try again.") from refused
        return Ended(status)
    return Ended.EXPIRED


def _read(
    customer_id: str, *, recorded: Iterable[str], stripe: StripeGateway, product: str, with_planned: bool
) -> tuple[dict[str, Json], dict[str, Json], list[Json]]:
    since = stripe.now() - LOOK_BACK
    subscriptions, listed, planned, *fetched = stripe.in_parallel(
        partial(stripe.list_subscriptions, customer_id),
        partial(stripe.list_sessions, customer_id, created_since=since),
        partial(or_none, stripe.list_coming_schedules, customer_id) if with_planned else list,
        *[partial(_get_if_there, session_id, stripe=stripe) for session_id in recorded],
    )
    sessions: dict[str, Json] = {}
    tagged = [session for session in listed if is_tagged(session, product)]
    for session in [*tagged, *filter(None, fetched)]:  # the fetched ones are ours by our own rows
        known = sessions.get(session["id"])
        if known is None or known["status"] == "open":
            sessions[session["id"]] = session
    return sessions, _by_id(subscriptions), planned or []


def _get_if_there(session_id: str, *, stripe: StripeGateway) -> Json | None:
    try:
        return stripe.get_session(session_id)
    except StripeMissing:
        return None


def _expire_orphaned(session_id: str, sessions: dict[str, Json], *, stripe: StripeGateway) -> None:
    """Expire an orphaned session; one that was paid meanwhile is read anew, with its subscription."""
    if expire(session_id, stripe=stripe) is Ended.COMPLETE:
        sessions[session_id] = stripe.get_session(session_id)
    else:
        sessions[session_id] = {**sessions[session_id], "status": "expired"}


def _subscriptions_of(
    sessions: Collection[Json], listed: Mapping[str, Json], *, stripe: StripeGateway
) -> dict[str, Json]:
    """The subscription of every paid session; one that the list lacks is fetched by id.

    A list may lag behind a payment, but a subscription that it shows as canceled stays so. One that it shows as live
    blocks in any case. So only the missing ones are fetched.
    """
    complete = [session for session in sessions if session["status"] == "complete"]
    ids = {session["subscription"] for session in complete if session["subscription"]}
    missing = [id_ for id_ in ids if id_ not in listed]
    fetched = stripe.in_parallel(*[partial(stripe.get_subscription, id_) for id_ in missing])
    return {id_: listed[id_] for id_ in ids if id_ in listed} | _by_id(fetched)


def _blocker(sessions: Collection[Json], subscriptions: Mapping[str, Json]) -> Blocker | None:
    complete = [session for session in sessions if session["status"] == "complete"]
    unpaid = {session["subscription"] for session in complete if session["payment_status"] == "unpaid"}
    in_progress: Blocker | None = None
    for subscription in subscriptions.values():
        if not is_live(subscription["status"]):
            continue
        if subscription["status"] not in ("incomplete", "unpaid") and subscription["id"] not in unpaid:
            return Blocker("already_subscribed", subscription["id"], subscription["status"])
        in_progress = Blocker("payment_in_progress", subscription["id"], subscription["status"])
    if any(session["mode"] == "subscription" and not session["subscription"] for session in complete):
        return Blocker("payment_in_progress", None, None)  # paid, and Stripe has yet to make the subscription
    return in_progress


def _planned(schedules: Collection[Json], catalog: Catalog) -> Blocker | None:
    """A schedule that is to begin a subscription to the product: sold another one now, its buyer would pay twice."""
    ours = next((schedule for schedule in schedules if begins_ours(schedule, catalog)), None)
    return Blocker("already_subscribed", None, str(ours.get("status"))) if ours else None


def _by_id(objects: Collection[Json]) -> dict[str, Json]:
    return {found["id"]: found for found in objects}
