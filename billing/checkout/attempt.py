"""What step 5 will send, whole: it is stored before it is sent, so a worker that takes over sends the same (LAN-6).

What only Stripe or the ledger knows of the buyer is asked here: whether they are a first-time buyer, and whether they
may have a trial. The parameters themselves are made in `rules`.
"""

import uuid

from billing.checkout import lane_store
from billing.checkout.context import Context
from billing.checkout.lane_store import Snapshot
from billing.checkout.rules import SESSION_LIFETIME, Attempt, Checkout
from billing.checkout.session_parameters import session_parameters
from billing.checkout.verify import Verdict, never_billed
from billing.rules.ids import SUBSCRIPTION, id_like
from billing.subscriptions.fetch import or_none


def build_attempt(snapshot: Snapshot, checkout: Checkout, customer_id: str, verdict: Verdict, ctx: Context) -> Attempt:
    """What step 5 sends, whole: a worker that takes over sends the same."""
    now, nonce = ctx.clock.now(), str(uuid.uuid4())
    expires_at = (ctx.stripe.now() + SESSION_LIFETIME).replace(microsecond=0)  # Stripe's clock judges it
    parameters = session_parameters(
        checkout,
        catalog=ctx.catalog,
        user_id=snapshot.lane.user_id,
        customer_id=customer_id,
        nonce=nonce,
        expires_at=expires_at,
        first_time=_is_first_time(checkout, customer_id, verdict, ctx),
        first_trial=_is_first_trial(snapshot, checkout, verdict, ctx),
        now=now,
    )
    return Attempt(
        nonce=nonce,
        lane_id=checkout.lane_id,
        checkout_id=checkout.id,
        idempotency_key=f"onelane-{nonce}",
        parameters=parameters,
        fingerprint=checkout.fingerprint,
        created_at=now,
        expires_at=expires_at,
    )


def _is_first_time(checkout: Checkout, customer_id: str, verdict: Verdict, ctx: Context) -> bool:
    """Whether a coupon for first-time buyers applies; Stripe is asked only where the plan has one.

    Of a customer that was deleted Stripe lists nothing, and keeps their sessions, subscriptions and invoices.
    """
    plan = ctx.catalog.plans.get(checkout.plan)
    if plan is None or plan.coupon is None or plan.coupon_for != "first_time":
        return False
    with ctx.database.read() as connection:
        bought = lane_store.bought_as_another(connection, checkout.lane_id, customer_id)
    sessions = [or_none(ctx.stripe.get_session, session_id) or {} for session_id in bought]
    before = {id_ for one in sessions if (id_ := id_like(SUBSCRIPTION, one.get("subscription")))}
    return never_billed({*verdict.begun, *before}, stripe=ctx.stripe)


def _is_first_trial(snapshot: Snapshot, checkout: Checkout, verdict: Verdict, ctx: Context) -> bool:
    """Whether this user may still have a trial: none of their subscriptions to the product ever began (CHK-33).

    Stripe lists no subscriptions of a customer that it has deleted: the lane's own paid sessions are looked at, too.
    """
    plan = ctx.catalog.plans.get(checkout.plan)
    if plan is None or plan.trial_days is None or verdict.begun:
        return False
    with ctx.database.read() as connection:
        return not lane_store.has_bought(connection, snapshot.lane.id)
