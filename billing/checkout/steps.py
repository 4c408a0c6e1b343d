"""The checkout protocol's steps 3 to 11, one small function each; `work` chooses among them.

Each takes the lane as step 2 saw it, does its calls to Stripe with no transaction open, and tries one
compare-and-set. It returns whether to go again; who lost a compare-and-set just goes again, too.
"""

import uuid
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from billing.catalog import Catalog
from billing.checkout import lane_ledger
from billing.checkout.lane_ledger import Snapshot
from billing.checkout.lanes import LOOK_BACK, SESSION_LIFETIME, Attempt, Checkout, Lane, is_stale, key_is_dead, nonce_of
from billing.checkout.session_parameters import session_parameters
from billing.checkout.verify import Blocker, Ended, Verdict, expire, never_paid, verify
from billing.clock import Clock
from billing.customers import ensure_customer, release_deleted
from billing.database import Database
from billing.doorbell import Doorbell
from billing.errors import StripeMisconfigured, StripeRefused, StripeSavedFailure
from billing.models import AttemptOutcome, CheckoutStatus, LaneState
from billing.stripe_gateway import StripeGateway

log = structlog.get_logger(__name__)

# Lists promise no read-after-write: a session not found is looked for again after this long.
LOOK_AGAIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Hands:
    """What every step is handed."""

    database: Database
    stripe: StripeGateway
    doorbell: Doorbell
    clock: Clock
    catalog: Catalog
    reuse_seconds: int


def begin(seen: Snapshot, mine: Checkout, at: Hands) -> bool:
    """Steps 3 and 4: verify that nothing bills this customer already, write the attempt ahead, and go on with 5."""
    customer_id = seen.customer_id or ensure_customer(
        seen.lane.user_id, database=at.database, stripe=at.stripe, clock=at.clock
    )
    try:
        verdict = _verify(seen, customer_id, at)  # 3 (LAN-11, LAN-14)
    except StripeRefused as refused:
        if not _has_replaced(customer_id, seen.lane, refused, at):
            raise
        return True
    if verdict.blocker:
        _refuse(seen.lane, mine, verdict.blocker, at)
        return True
    written = _attempt(seen, mine, customer_id, verdict, at)
    nonce, now_is = written.nonce, LaneState.CREATING
    with at.database.write() as connection:  # 4 (LAN-2, LAN-6)
        won = _won(seen.lane, lane_ledger.move(connection, seen.lane, now_is, nonce=nonce, session_id=None))
        if won:
            lane_ledger.insert_attempt(connection, written)
    if not won:
        return True
    moved = replace(seen.lane, state=now_is, version=seen.lane.version + 1, nonce=nonce, session_id=None)
    return create(replace(seen, lane=moved, attempt=written), at)


def _attempt(seen: Snapshot, mine: Checkout, customer_id: str, verdict: Verdict, at: Hands) -> Attempt:
    """What step 5 sends, whole: whoever takes over sends the same."""
    now, nonce = at.clock.now(), str(uuid.uuid4())
    expires_at = (at.stripe.now() + SESSION_LIFETIME).replace(microsecond=0)  # Stripe's clock judges it
    parameters = session_parameters(
        mine,
        catalog=at.catalog,
        user_id=seen.lane.user_id,
        customer_id=customer_id,
        nonce=nonce,
        expires_at=expires_at,
        first_time=_is_first_time(mine, verdict, at),
        now=now,
    )
    return Attempt(
        nonce=nonce,
        lane_id=mine.lane_id,
        checkout_id=mine.id,
        idempotency_key=f"onelane-{nonce}",
        parameters=parameters,
        fingerprint=mine.fingerprint,
        created_at=now,
        expires_at=expires_at,
    )


def _is_first_time(mine: Checkout, verdict: Verdict, at: Hands) -> bool:
    """Asked only for somebody who comes back, and where it makes a difference."""
    plan = at.catalog.plans.get(mine.plan)
    matters = plan is not None and plan.coupon is not None and plan.coupon_for == "first_time"
    return matters and never_paid(verdict.begun, stripe=at.stripe)


def create(seen: Snapshot, at: Hands) -> bool:
    """Steps 5 and 6: send the stored attempt, whoever wrote it, with its own key and parameters."""
    lane, attempt = seen.lane, seen.attempt
    assert attempt is not None, "a creating lane has an attempt"
    try:
        session_id = at.stripe.create_session(
            attempt.parameters, idempotency_key=attempt.idempotency_key
        )  # 5 (LAN-7, LAN-13)
    except StripeSavedFailure as failure:
        return _look_for_it(seen, failure, at)  # 5b (LAN-17)
    except (StripeRefused, StripeMisconfigured) as refused:
        replaced = _has_replaced(attempt.parameters["customer"], lane, refused, at)
        error = {"code": refused.code, "detail": refused.sentence}
        with at.database.write() as connection:
            failed = []
            if _won(lane, lane_ledger.close(connection, lane, AttemptOutcome.REFUSED)) and not replaced:
                failed = lane_ledger.turn_down(
                    connection,
                    lane.id,
                    status=CheckoutStatus.FAILED,
                    error=error,
                    now=at.clock.now(),
                    fingerprint=attempt.fingerprint,  # not: mine. Another's bad price fails nobody else (LAN-15)
                )
        log.warning("attempt.refused", lane_id=lane.id, nonce=attempt.nonce, code=refused.code, checkouts=len(failed))
        at.doorbell.ring(failed)
        return True
    return _publish(lane, attempt.nonce, session_id, at)


def _look_for_it(seen: Snapshot, failure: StripeSavedFailure, at: Hands) -> bool:
    """Step 5b: find by its nonce what a failed creation may have made; close once it can make nothing any more."""
    lane, attempt = seen.lane, seen.attempt
    assert attempt is not None, "step 4 wrote it"
    # By Stripe's clock, not by the attempt's row: a worker's clock that is ahead would hide what it made.
    for session in at.stripe.list_sessions(attempt.parameters["customer"], created_since=at.stripe.now() - LOOK_BACK):
        if nonce_of(session) == attempt.nonce:
            return _publish(lane, attempt.nonce, session["id"], at)
    now = at.clock.now()
    # abs: written by a clock that is ahead, it would else be waited for until that time comes.
    looked_before = attempt.doubted_at is not None and abs(now - attempt.doubted_at) >= LOOK_AGAIN
    dead = failure.replayed or key_is_dead(attempt, stripe_now=at.stripe.now())
    with at.database.write() as connection:
        if not (dead and looked_before):
            lane_ledger.doubt(connection, attempt.nonce, now=now)
        else:
            _won(lane, lane_ledger.close(connection, lane, AttemptOutcome.REFUSED))
            return True
    raise failure


def _publish(lane: Lane, nonce: str, session_id: str, at: Hands) -> bool:
    """Step 6: the lane owns this session now. Only the id is taken from the answer, which may be an old one."""
    with at.database.write() as connection:
        lane_ledger.name_session(connection, nonce, session_id)  # a fact, even where the lane has moved on
        _won(lane, lane_ledger.move(connection, lane, LaneState.OPEN, session_id=session_id))
    return True


def answer(seen: Snapshot, mine: Checkout, at: Hands) -> bool:
    """Steps 7 to 9: look at the session, verify once more, and give its URL; or begin to close it.

    Once answered, this pass is done: who came meanwhile is looked for again, later and all together (LAN-23).
    """
    lane, attempt = seen.lane, seen.attempt
    assert attempt is not None, "step 4 wrote it"
    customer_id = attempt.parameters["customer"]
    replaced = customer_id != seen.customer_id  # the session is a deleted customer's
    if replaced or is_stale(attempt, mine, reuse_seconds=at.reuse_seconds):
        return _begin_closing(lane, at)
    try:
        verdict = _verify(seen, customer_id, at)  # 7, 7s and 8, read side by side (LAN-5, LAN-11)
    except StripeRefused as refused:
        if not _has_replaced(customer_id, lane, refused, at):
            raise
        return True
    session = verdict.sessions.get(lane.session_id or "")
    if session is None or session["status"] != "open":  # 7: paid or expired; step 3 will see which
        paid = session is not None and session["status"] == "complete"
        with at.database.write() as connection:
            _won(
                lane, lane_ledger.close(connection, lane, AttemptOutcome.COMPLETED if paid else AttemptOutcome.EXPIRED)
            )
        return True
    if verdict.blocker:
        return _begin_closing(lane, at)
    with at.database.write() as connection:  # 8 (LAN-18)
        answered = lane_ledger.answer(connection, lane, mine, url=session["url"], now=at.clock.now())
    at.doorbell.ring(answered)
    return not _won(lane, bool(answered))


def _begin_closing(lane: Lane, at: Hands) -> bool:
    """Step 9: committed before the expire is sent, so that no URL is given out meanwhile (LAN-10)."""
    with at.database.write() as connection:
        _won(lane, lane_ledger.move(connection, lane, LaneState.CLOSING))
    return True


def close_session(seen: Snapshot, at: Hands) -> bool:
    """Steps 10 and 11: expire the session and close the lane; a paid one is left to step 3."""
    lane = seen.lane
    assert lane.session_id is not None, "a closing lane has a session"
    ended = expire(lane.session_id, stripe=at.stripe)  # 10 (LAN-8)
    outcome = AttemptOutcome.COMPLETED if ended is Ended.COMPLETE else AttemptOutcome.SUPERSEDED
    with at.database.write() as connection:  # 11
        _won(lane, lane_ledger.close(connection, lane, outcome))
    return True


def _won(lane: Lane, hit: bool) -> bool:
    """Say so when a compare-and-set found the lane changed: another worker was here, or this one slept."""
    if not hit:
        log.info("lane.moved_on", lane_id=lane.id, state=lane.state.value, nonce=lane.nonce)
    return hit


def _verify(seen: Snapshot, customer_id: str, at: Hands) -> Verdict:
    def owned() -> tuple[str | None, str | None]:
        with at.database.read() as connection:
            lane = lane_ledger.read_lane(connection, seen.lane.id)
        return (lane.nonce, lane.session_id) if lane else (None, None)

    return verify(
        customer_id,
        recorded=seen.recorded,
        owned=owned,
        stripe=at.stripe,
        catalog=at.catalog,
        seen=(seen.lane.nonce, seen.lane.session_id),
    )


def _has_replaced(customer_id: str, lane: Lane, refused: StripeRefused | StripeMisconfigured, at: Hands) -> bool:
    """Whether Stripe refused because it deleted this customer; the user is without one now, and gets a new one."""
    if not isinstance(refused, StripeRefused) or refused.param != "customer":
        return False
    return release_deleted(
        lane.user_id, customer_id, database=at.database, stripe=at.stripe, clock=at.clock, catalog=at.catalog
    )


def _refuse(lane: Lane, mine: Checkout, blocker: Blocker, at: Hands) -> None:
    """Tell this checkout and the older ones that the customer is subscribed, or about to be."""
    words = {
        "already_subscribed": "This customer already has a subscription to this product.",
        "payment_in_progress": "A payment for this product is in progress. Wait for it, or finish it.",
    }
    error = {"code": blocker.code, "detail": words[blocker.code], "subscription_status": blocker.status}
    with at.database.write() as connection:
        refused = lane_ledger.turn_down(
            connection, lane.id, status=CheckoutStatus.REFUSED, error=error, now=at.clock.now(), up_to=mine.number
        )
    log.info("checkout.refused", lane_id=lane.id, code=blocker.code, subscription_id=blocker.subscription_id)
    at.doorbell.ring(refused)
