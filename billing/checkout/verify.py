"""Verifying at Stripe: what open and paid sessions and which subscriptions a customer has, and expiring strays.

Used before every creation (step 3) and before every answer (steps 7, 7s and 8). Everything is read side by
side; statuses only ever move from open to complete or expired, so the more advanced of two readings is the newer.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from billing.catalog import Catalog
from billing.checkout.rules import LOOK_BACK, is_tagged, strays
from billing.errors import StripeMissing, StripeRefused, StripeUnclear
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.projection import belongs, has_begun, is_live

Json = dict[str, Any]


class Ended(StrEnum):
    """How an expire ended: what Stripe says the session is now."""

    EXPIRED = "expired"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why this customer must not buy now: a live subscription, or a paid session that will become one."""

    code: str  # already_subscribed | payment_in_progress
    subscription_id: str | None
    status: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Stripe said: tagged sessions by id, what blocks, and the subscriptions of the product that once began."""

    sessions: Mapping[str, Json]
    blocker: Blocker | None
    begun: Collection[str]


def verify(
    customer_id: str,
    *,
    recorded: Iterable[str],
    owned: Callable[[], tuple[str | None, str | None]],
    stripe: StripeGateway,
    catalog: Catalog,
    seen: tuple[str | None, str | None] = (None, None),
) -> Verdict:
    """Read everything that could bill this customer twice, and expire strays on the way.

    `recorded` are the ids of our own recent sessions: lists promise no read-after-write, so these are fetched
    by id. `owned` gives the nonce and the session id of the lane's live attempt and is asked only after the
    lists were read (LAN-5): asked before, a session that another worker has just opened would be a stray. `seen` is
    the same as this pass began with: where only that one is open there is nothing to ask, since a lane that has moved
    on closes it by its own steps and lets this pass lose its compare-and-set.

    Raises the gateway's errors; nothing may be created after one.
    """
    sessions, subscriptions = _read(customer_id, recorded=recorded, stripe=stripe, product=catalog.product)
    found = strays(sessions.values(), live_nonce=seen[0], live_session_id=seen[1])
    if found:
        nonce, session_id = owned()
        found = strays(sessions.values(), live_nonce=nonce, live_session_id=session_id)
    for stray in found:
        _retire(stray["id"], sessions, stripe=stripe)
    if found:
        subscriptions = _list_again(customer_id, subscriptions, stripe=stripe)
    own = _subscriptions_of(sessions.values(), subscriptions, stripe=stripe)
    ours = {id_: one for id_, one in subscriptions.items() if belongs(one, catalog)}
    return Verdict(
        sessions=sessions,
        blocker=_blocker(sessions.values(), ours | own),
        begun=[id_ for id_, one in (ours | own).items() if has_begun(one["status"])],
    )


def never_paid(begun: Collection[str], *, stripe: StripeGateway) -> bool:
    """Whether none of these subscriptions was ever paid for (CHK-11): what a trial costs is nothing.

    The subtotal is before discounts: who had a first month for nothing has had it.
    """
    paid = stripe.in_parallel(*[partial(stripe.list_paid_invoices, id_) for id_ in begun])
    return not any((invoice.get("subtotal") or 0) > 0 for invoices in paid for invoice in invoices)


def expire(session_id: str, *, stripe: StripeGateway) -> Ended:
    """Expire a session and say what it is now: never branch on the refusal's text, look (LAN-8).

    Raises StripeUnclear when Stripe refuses although the session is still open.
    """
    try:
        stripe.expire_session(session_id)
    except StripeMissing:
        return Ended.EXPIRED  # there is no such session: nobody can pay it
    except StripeRefused as refused:
        status = stripe.get_session(session_id)["status"]
        if status not in (Ended.EXPIRED, Ended.COMPLETE):
            raise StripeUnclear("Stripe does not expire a session that is still open. Try again.") from refused
        return Ended(status)
    return Ended.EXPIRED


def _read(
    customer_id: str, *, recorded: Iterable[str], stripe: StripeGateway, product: str
) -> tuple[dict[str, Json], dict[str, Json]]:
    since = stripe.now() - LOOK_BACK
    subscriptions, listed, *fetched = stripe.in_parallel(
        partial(stripe.list_subscriptions, customer_id),
        partial(stripe.list_sessions, customer_id, created_since=since),
        *[partial(_get_if_there, session_id, stripe=stripe) for session_id in recorded],
    )
    sessions: dict[str, Json] = {}
    tagged = (one for one in listed if is_tagged(one, product))
    for session in [*tagged, *(one for one in fetched if one)]:  # the fetched are ours by our own rows
        known = sessions.get(session["id"])
        if known is None or known["status"] == "open":
            sessions[session["id"]] = session
    return sessions, _by_id(subscriptions)


def _list_again(customer_id: str, listed: Mapping[str, Json], *, stripe: StripeGateway) -> dict[str, Json]:
    """Subscriptions after sessions were expired: one may have been paid since they were listed."""
    return {**listed, **_by_id(stripe.list_subscriptions(customer_id))}


def _get_if_there(session_id: str, *, stripe: StripeGateway) -> Json | None:
    try:
        return stripe.get_session(session_id)
    except StripeMissing:
        return None


def _retire(session_id: str, sessions: dict[str, Json], *, stripe: StripeGateway) -> None:
    """Expire a stray; one that was paid meanwhile is read anew, with its subscription."""
    if expire(session_id, stripe=stripe) is Ended.COMPLETE:
        sessions[session_id] = stripe.get_session(session_id)
    else:
        sessions[session_id] = {**sessions[session_id], "status": "expired"}


def _subscriptions_of(
    sessions: Collection[Json], listed: Mapping[str, Json], *, stripe: StripeGateway
) -> dict[str, Json]:
    """The subscription of every paid session; one that the list lacks is fetched by id.

    A list may lag behind a payment, but never takes an ending back: a subscription that it shows as
    canceled stays so, and one that it shows as live blocks in any case. Only the missing are asked for.
    """
    ids = {one["subscription"] for one in sessions if one["status"] == "complete" and one["subscription"]}
    missing = [id_ for id_ in ids if id_ not in listed]
    fetched = stripe.in_parallel(*[partial(stripe.get_subscription, id_) for id_ in missing])
    return {id_: listed[id_] for id_ in ids if id_ in listed} | {one["id"]: one for one in fetched}


def _blocker(sessions: Collection[Json], subscriptions: Mapping[str, Json]) -> Blocker | None:
    paid_late = [one for one in sessions if one["status"] == "complete" and one["payment_status"] == "unpaid"]
    unpaid = {one["subscription"] for one in paid_late}
    waiting: Blocker | None = None
    for subscription in subscriptions.values():
        if not is_live(subscription["status"]):
            continue
        if subscription["status"] not in ("incomplete", "unpaid") and subscription["id"] not in unpaid:
            return Blocker("already_subscribed", subscription["id"], subscription["status"])
        waiting = Blocker("payment_in_progress", subscription["id"], subscription["status"])
    for session in sessions:
        # Paid, but not yet a subscription that could be looked at: it will be one.
        if session["status"] == "complete" and session["mode"] == "subscription" and not session["subscription"]:
            return Blocker("payment_in_progress", None, None)
    return waiting


def _by_id(objects: Collection[Json]) -> dict[str, Json]:
    return {one["id"]: one for one in objects}
