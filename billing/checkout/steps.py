"""The checkout protocol's steps 3 to 11, one small function each; `work` chooses among them.

Each step takes the lane as step 2 read it and calls Stripe with no transaction open. It then tries one compare-and-set,
and returns whether the lane has to be read again. A lost compare-and-set means: read it again.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from billing.checkout import checkout_store, lane_store
from billing.checkout.attempt import build_attempt
from billing.checkout.context import Context
from billing.checkout.lane_store import Snapshot
from billing.checkout.refusal import explain
from billing.checkout.rules import LOOK_BACK, Attempt, Checkout, Lane, is_stale, key_is_dead
from billing.checkout.verify import Blocker, Ended, Verdict, expire, verify
from billing.customers.customers import ensure_customer
from billing.errors import StripeMisconfigured, StripeRefused, StripeSavedFailure
from billing.models import AttemptOutcome, CheckoutStatus, LaneState
from billing.rules.product_tag import nonce_of
from billing.subscriptions.release import release_deleted

log = structlog.get_logger(__name__)

# Lists promise no read-after-write: a session that is not found is looked for again after this long.
LOOK_AGAIN = timedelta(seconds=5)


def begin(snapshot: Snapshot, checkout: Checkout, ctx: Context) -> bool:
    """Steps 3 and 4: verify that nothing bills this customer yet, write the attempt ahead, and go on with step 5."""
    customer_id = snapshot.customer_id or ensure_customer(
        snapshot.lane.user_id, database=ctx.database, stripe=ctx.stripe, clock=ctx.clock
    )
    try:
        # A customer that was just made has nothing planned (CHK-41).
        known = snapshot.customer_id is not None
        verdict = _verify(snapshot, customer_id, ctx, with_planned=known)  # 3 (LAN-11, LAN-14)
    except StripeRefused as refused:
        if not _has_replaced(customer_id, snapshot.lane, refused, ctx):
            raise
        return True
    if verdict.blocker:
        _refuse(snapshot.lane, checkout, verdict.blocker, ctx)
        return True
    attempt = build_attempt(snapshot, checkout, customer_id, verdict, ctx)
    changes: dict[str, Any] = {"nonce": attempt.nonce, "session_id": None}
    with ctx.database.write() as connection:  # 4 (LAN-2, LAN-6)
        won = _won(snapshot.lane, lane_store.move(connection, snapshot.lane, LaneState.CREATING, **changes))
        if won:
            lane_store.insert_attempt(connection, attempt)
    if not won:
        return True
    lane = replace(snapshot.lane, state=LaneState.CREATING, version=snapshot.lane.version + 1, **changes)
    return create(replace(snapshot, lane=lane, attempt=attempt), ctx)


def create(snapshot: Snapshot, ctx: Context) -> bool:
    """Steps 5 and 6: send the stored attempt with its own key and parameters, whichever worker wrote it."""
    lane, attempt = snapshot.lane, snapshot.attempt
    assert attempt is not None, "a creating lane has an attempt"
    try:
        session_id = ctx.stripe.create_session(
            attempt.parameters, idempotency_key=attempt.idempotency_key
        )  # 5 (LAN-7, LAN-13)
    except StripeSavedFailure as failure:
        return _look_for_it(snapshot, failure, ctx)  # 5b (LAN-17)
    except (StripeRefused, StripeMisconfigured) as refused:
        replaced = _has_replaced(attempt.parameters["customer"], lane, refused, ctx)
        # Before the lane moves: its reads may fail, and the next worker gets this refusal again by its key.
        status, error = explain(refused, attempt, stripe=ctx.stripe)
        with ctx.database.write() as connection:
            failed = []
            won = _won(lane, lane_store.close(connection, lane, AttemptOutcome.REFUSED))
            if won:
                lane_store.forget_parameters(connection, attempt)
            if won and not replaced:
                failed = checkout_store.turn_down(
                    connection,
                    lane.id,
                    status=status,
                    error=error,
                    now=ctx.clock.now(),
                    fingerprint=attempt.fingerprint,  # not the newest's: a bad price fails its own checkouts (LAN-15)
                )
        about = {"code": error["code"], "checkouts": len(failed), "reason": refused.sentence}
        log.warning("attempt.refused", lane_id=lane.id, nonce=attempt.nonce, **about)
        ctx.wakeups.wake(failed)
        return True
    return _publish(lane, attempt, session_id, ctx)


def _look_for_it(snapshot: Snapshot, failure: StripeSavedFailure, ctx: Context) -> bool:
    """Step 5b: look for the session of a failed creation by its nonce; close the lane once none can come of it."""
    lane, attempt = snapshot.lane, snapshot.attempt
    assert attempt is not None, "step 4 wrote it"
    # By Stripe's clock: by the attempt's row, a worker whose clock is ahead would hide the session that it made.
    for session in ctx.stripe.list_sessions(attempt.parameters["customer"], created_since=ctx.stripe.now() - LOOK_BACK):
        if nonce_of(session) == attempt.nonce:
            return _publish(lane, attempt, session["id"], ctx)
    now = ctx.clock.now()
    # abs: a time that was written by a clock that is ahead counts as past.
    looked_before = attempt.doubted_at is not None and abs(now - attempt.doubted_at) >= LOOK_AGAIN
    dead = failure.replayed or key_is_dead(attempt, stripe_now=ctx.stripe.now())
    with ctx.database.write() as connection:
        if not (dead and looked_before):
            lane_store.doubt(connection, attempt.nonce, now=now)
        else:
            if _won(lane, lane_store.close(connection, lane, AttemptOutcome.REFUSED)):
                lane_store.forget_parameters(connection, attempt)
            return True
    raise failure


def _publish(lane: Lane, attempt: Attempt, session_id: str, ctx: Context) -> bool:
    """Step 6: the lane owns this session. Only the id is taken from the answer: the rest may be a replay."""
    with ctx.database.write() as connection:
        lane_store.name_session(connection, attempt.nonce, session_id)  # a fact, even where the lane has moved on
        if _won(lane, lane_store.move(connection, lane, LaneState.OPEN, session_id=session_id)):
            lane_store.forget_parameters(connection, attempt)
    return True


def answer(snapshot: Snapshot, checkout: Checkout, ctx: Context) -> bool:
    """Steps 7 to 9: look at the session, verify once more, and give its URL; or begin to close it.

    An answer ends this pass. Checkouts that arrived meanwhile get the next one, together (LAN-23).
    """
    lane, attempt = snapshot.lane, snapshot.attempt
    assert attempt is not None, "step 4 wrote it"
    customer_id = attempt.parameters["customer"]
    replaced = customer_id != snapshot.customer_id  # the session is a deleted customer's
    if replaced or is_stale(attempt, checkout, reuse_seconds=ctx.reuse_seconds):
        return _begin_closing(lane, ctx)
    try:
        verdict = _verify(snapshot, customer_id, ctx)  # 7, 7s and 8, side by side (LAN-5, LAN-11)
    except StripeRefused as refused:
        if not _has_replaced(customer_id, lane, refused, ctx):
            raise
        return True
    session = verdict.sessions.get(lane.session_id or "")
    if session is None or session["status"] != "open":  # 7: paid or expired
        paid = session is not None and session["status"] == "complete"
        with ctx.database.write() as connection:
            _won(lane, lane_store.close(connection, lane, AttemptOutcome.COMPLETED if paid else AttemptOutcome.EXPIRED))
        return True
    if verdict.blocker:
        return _begin_closing(lane, ctx)
    with ctx.database.write() as connection:  # 8 (LAN-18)
        answered = checkout_store.answer(connection, lane, checkout, url=session["url"], now=ctx.clock.now())
    ctx.wakeups.wake(answered)
    return not _won(lane, bool(answered))


def _begin_closing(lane: Lane, ctx: Context) -> bool:
    """Step 9: committed before the expire is sent, so that no URL is given out meanwhile (LAN-10)."""
    with ctx.database.write() as connection:
        _won(lane, lane_store.move(connection, lane, LaneState.CLOSING))
    return True


def close_session(snapshot: Snapshot, ctx: Context) -> bool:
    """Steps 10 and 11: expire the session and close the lane. Step 3 finds a session that was paid meanwhile.

    It was superseded by the checkout that waits; where none does, a person had it expired.
    """
    lane = snapshot.lane
    assert lane.session_id is not None, "a closing lane has a session"
    ended = expire(lane.session_id, stripe=ctx.stripe)  # 10 (LAN-8)
    outcome = AttemptOutcome.SUPERSEDED if snapshot.newest else AttemptOutcome.EXPIRED
    outcome = AttemptOutcome.COMPLETED if ended is Ended.COMPLETE else outcome
    with ctx.database.write() as connection:  # 11
        _won(lane, lane_store.close(connection, lane, outcome))
    return True


def _won(lane: Lane, hit: bool) -> bool:
    """Log a lost compare-and-set: another worker changed the lane, or this one slept."""
    if not hit:
        log.info("lane.moved_on", lane_id=lane.id, state=lane.state.value, nonce=lane.nonce)
    return hit


def _verify(snapshot: Snapshot, customer_id: str, ctx: Context, *, with_planned: bool = False) -> Verdict:
    def owned() -> tuple[str | None, str | None]:
        with ctx.database.read() as connection:
            lane = lane_store.read_lane(connection, snapshot.lane.id)
        return (lane.nonce, lane.session_id) if lane else (None, None)

    return verify(
        customer_id,
        recorded=snapshot.recorded,
        owned=owned,
        stripe=ctx.stripe,
        catalog=ctx.catalog,
        owned_before=(snapshot.lane.nonce, snapshot.lane.session_id),
        with_planned=with_planned,
    )


def _has_replaced(customer_id: str, lane: Lane, refused: StripeRefused | StripeMisconfigured, ctx: Context) -> bool:
    """Whether Stripe refused because this customer was deleted there. The user gets a new one in the next round."""
    if not isinstance(refused, StripeRefused) or refused.param != "customer":
        return False
    return release_deleted(lane.user_id, customer_id, ctx)


def _refuse(lane: Lane, checkout: Checkout, blocker: Blocker, ctx: Context) -> None:
    """Refuse this checkout and the older ones: the customer is subscribed, or about to be."""
    details = {
        "already_subscribed": "This customer already has a subscription to this product.",
        "payment_in_progress": "A payment for this product is in progress. Wait for it, or finish it.",
        # by its status, where that says more
        "not_started": "A subscription to this product is planned for this customer and begins later. Ask for help.",
        "unpaid": "The last payment for this product was not made, and is not tried again. Pay the open invoice in the"
        " portal, or cancel the subscription.",
    }
    detail = details.get(blocker.status or "") or details[blocker.code]
    error = {"code": blocker.code, "detail": detail, "subscription_status": blocker.status}
    with ctx.database.write() as connection:
        refused = checkout_store.turn_down(
            connection, lane.id, status=CheckoutStatus.REFUSED, error=error, now=ctx.clock.now(), up_to=checkout.number
        )
    log.info("checkout.refused", lane_id=lane.id, code=blocker.code, subscription_id=blocker.subscription_id)
    ctx.wakeups.wake(refused)
