"""The shortcuts of the checkout protocol, as switchable changes of the real code. The shipped package has none of them.

A mutant names what kills it: a scene in which the explorer finds a counterexample, or the test that decides it in one
step. `tests/races/test_mutants.py` holds that each of them dies; `tests.races.switch` switches one on for a whole run
of pytest.
"""

import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from billing.checkout import attempt, checkout_store, lane_store, steps, verify, view, work
from billing.checkout.rules import Attempt
from billing.errors import OnelaneError
from billing.models import CheckoutStatus, LaneState, lanes
from billing.stripe_gateway import GatewayClient
from tests.races.list_expire_create import list_expire_create
from tests.races.mutant import Mutant, always, in_any_case, new_key
from tests.races.scene import Scene

STORE, CHECKOUT = (f"tests/billing/checkout/test_{name}.py" for name in ("lane_store", "work"))


def key_from_number(real: Any, snapshot: Any, *rest: Any) -> Attempt:
    """The lane's version in the idempotency key, in place of the nonce."""
    attempt: Attempt = real(snapshot, *rest)
    return replace(attempt, idempotency_key=f"onelane-{snapshot.lane.id}-{snapshot.lane.version}")


def session_counts_as_open(real: Any, snapshot: Any, *rest: Any, **named: Any) -> Any:
    """The lane's session is open because its creation was answered so."""
    verdict, id_ = real(snapshot, *rest, **named), snapshot.lane.session_id
    if snapshot.lane.state is not LaneState.OPEN or id_ not in verdict.sessions:
        return verdict
    return replace(verdict, sessions={**verdict.sessions, id_: {**verdict.sessions[id_], "status": "open"}})


def expire_first(real: Any, lane: Any, ctx: Any) -> bool:
    """Step 10 before step 9."""
    verify.expire(lane.session_id, stripe=ctx.stripe)
    return bool(real(lane, ctx))


def version_stays(_: Any, connection: sa.Connection, lane: Any) -> bool:
    """The answer looks at the lane and does not raise its version."""
    same = sa.select(lanes.c.id).where(lanes.c.id == lane.id, lanes.c.state == LaneState.OPEN)
    return connection.execute(same.where(lanes.c.nonce == lane.nonce)).first() is not None


def answer_newer_too(real: Any, connection: Any, lane: Any, newest: Any, **rest: Any) -> Any:
    """Every equal checkout is answered, also those that came after this pass had begun."""
    return real(connection, lane, replace(newest, number=newest.number + 1000), **rest)


_early = threading.local()


def look_at_pending_first(real: Any, lane_id: int, ctx: Any) -> Any:
    """A round reads who waits in a transaction of its own, before the one that reads the lane."""
    found = real(lane_id, ctx)
    _early.waiting = found.waiting if found else None
    try:
        return real(lane_id, ctx)
    finally:
        _early.waiting = None


def waiting_from_before(real: Any, *arguments: Any, **named: Any) -> Any:
    """What `look_at_pending_first` read is what counts."""
    snapshot, waiting = real(*arguments, **named), getattr(_early, "waiting", None)
    return snapshot if waiting is None else replace(snapshot, waiting=waiting)


def fail_the_newest(real: Any, snapshot: Any, ctx: Any) -> bool:
    """A refused attempt fails the newest checkout, whoever's attempt it was."""
    newest = snapshot.newest or snapshot.attempt
    return bool(real(replace(snapshot, attempt=replace(snapshot.attempt, fingerprint=newest.fingerprint)), ctx))


def ask_for_owner_first(real: Any, customer_id: str, *, owned: Any, **rest: Any) -> Any:
    """The lane's live attempt is read before Stripe's lists."""
    owner = owned()
    return real(customer_id, owned=lambda: owner, **rest)


def open_sessions_only(real: Any, *arguments: Any, **named: Any) -> Any:
    """A session that was paid a moment ago is not on the list."""
    sessions, *others = real(*arguments, **named)
    return {id_: session for id_, session in sessions.items() if session["status"] == "open"}, *others


def any_is_newest(_: Any, snapshot: Any) -> Any:
    """The pass is made for the oldest that waits."""
    return snapshot.waiting[0] if snapshot.waiting else None


def supersede_newer_too(real: Any, connection: Any, newest: Any) -> Any:
    """Whoever differs is superseded."""
    return real(connection, replace(newest, number=2**31))


def stale_against_now(real: Any, snapshot: Any, newest: Any, ctx: Any) -> bool:
    """Staleness judged at the moment of the pass."""
    return bool(real(snapshot, replace(newest, arrived_at=ctx.clock.now()), ctx))


def no_expires_at(real: Any, gateway: Any, parameters: Any, *, idempotency_key: str) -> str:
    """Sessions live as long as Stripe lets them: nothing stops a request that was sent a day late."""
    kept = {name: value for name, value in parameters.items() if name != "expires_at"}
    return str(real(gateway, kept, idempotency_key=idempotency_key))


def refusal_is_fatal(_: Any, session_id: str, *, stripe: Any) -> verify.Ended:
    """A refused expiry is raised, and the session is not looked at."""
    stripe.expire_session(session_id)
    return verify.Ended.EXPIRED


def swallow(_: Any, session_id: str, *, stripe: Any) -> verify.Ended:
    """Whatever an expiry is answered, the session counts as expired."""
    with suppress(OnelaneError):
        refusal_is_fatal(_, session_id, stripe=stripe)
    return verify.Ended.EXPIRED


CHECKOUT_MUTANTS = {
    "list_expire_create": Mutant(
        "no lock: list, expire, create",
        {work.work_lane: list_expire_create},
        scene=Scene(plans=("standard", "commit")),
    ),
    "key_from_number": Mutant(
        "a key made from the attempt's number alone",
        {attempt.build_attempt: key_from_number},
        scene=Scene(plans=("standard",), restored=True, pays=False),
    ),
    "new_key": Mutant(
        "a new idempotency key when taking over",
        {GatewayClient.create_session: new_key},
        scene=Scene(lossy=0.25),
    ),
    "no_cas": Mutant(
        "a lock with a lease and nothing else: no compare-and-set",
        {lane_store.unchanged: always(())},
        scene=Scene(opened=True),
    ),
    "cas_on_version": Mutant(
        "a compare-and-set on the version alone (a restored backup repeats it)",
        {lane_store.unchanged: lambda _, lane: (lanes.c.state == lane.state, lanes.c.version == lane.version)},
        test=f"{STORE}::test_lane_restored_from_a_backup_is_not_taken_for_unchanged",
    ),
    "cas_on_state": Mutant(
        "a compare-and-set on the state alone (A, B, A)",
        {lane_store.unchanged: lambda _, lane: (lanes.c.state == lane.state,)},
        scene=Scene(plans=("commit", "standard", "commit"), opened=True, pays=False),
    ),
    "trust_the_answer": Mutant(
        "trust status or url in the create's answer",
        {steps._verify: session_counts_as_open},
        scene=Scene(plans=("standard",), opened=True, dashboard=True),
    ),
    "expire_first": Mutant(
        "call expire before committing closing",
        {steps._begin_closing: expire_first},
        scene=Scene(plans=("standard", "commit"), opened=True, pays=False),
    ),
    "answer_without_cas": Mutant(
        "answer without the compare-and-set",
        {lane_store.raise_version: in_any_case},
        scene=Scene(plans=("commit", "standard"), opened=True, pays=False),
    ),
    "stored_url": Mutant(
        "the web answers from a stored URL",
        {view._shown: lambda _, row: CheckoutStatus(row.status)},
        scene=Scene(plans=("standard", "commit", "standard"), pays=False),
    ),
    "version_not_raised": Mutant(
        "an answer that does not raise the version",
        {lane_store.raise_version: version_stays},
        scene=Scene(plans=("commit", "standard"), opened=True, pays=False),
    ),
    "newer_too": Mutant(
        "an answer that also answers newer equal checkouts",
        {checkout_store.answer: answer_newer_too},
        scene=Scene(plans=("standard", "commit", "standard"), opened=True, pays=False),
    ),
    "pending_first": Mutant(
        "pending read before the lane",
        {work._read: look_at_pending_first, lane_store.read_snapshot: waiting_from_before},
        scene=Scene(plans=("commit", "standard"), opened=True, pays=False),
    ),
    "fail_mine": Mutant(
        "fail mine instead of whoever equals the refused attempt",
        {steps.create: fail_the_newest},
        scene=Scene(plans=("standard", "commit"), lossy=0.25, lacks="standard"),
    ),
    "sql_before_list": Mutant(
        "read SQL before listing orphaned sessions",
        {verify.verify: ask_for_owner_first},
        scene=Scene(plans=("standard", "commit"), pays=False),
    ),
    "open_only": Mutant(
        "list only open sessions in step 3",
        {verify._read: open_sessions_only},
        scene=Scene(plans=("commit",), opened=True, lag_seconds=30),
    ),
    "no_subscription_by_id": Mutant(
        "no look at a paid session's own subscription",
        {verify._subscriptions_of: always({})},
        scene=Scene(plans=("standard",), legacy=True, lag_seconds=30),
    ),
    "any_supersedes": Mutant(
        "any pending checkout may supersede, not only the newest",
        {lane_store.Snapshot.newest: any_is_newest, checkout_store.supersede_older: supersede_newer_too},
        scene=Scene(plans=("standard", "commit", "standard"), pays=False),
    ),
    "stale_against_now": Mutant(
        "staleness judged against now",
        {steps.answer: stale_against_now},
        test=f"{CHECKOUT}::test_stale_is_judged_by_arrival_not_by_now",
    ),
    "no_expires_at": Mutant(
        "no absolute expires_at",
        {GatewayClient.create_session: no_expires_at},
        scene=Scene(plans=("standard",), day=True, pays=False),
    ),
    "swallow": Mutant(
        "swallow every expire error",
        {verify.expire: swallow},
        scene=Scene(plans=("commit",), opened=True, lost_expires=4),
    ),
    "expire_error_is_fatal": Mutant(
        "treat every expire error as fatal",
        {verify.expire: refusal_is_fatal},
        scene=Scene(plans=("commit",), opened=True),
    ),
    "planned_is_not_sold": Mutant(
        "no look for a subscription that begins later",
        {verify._planned: always(None)},
        test="tests/billing/checkout/test_planned.py::test_customer_whose_subscription_begins_later_is_sold_no_second_one",
    ),
    "deleted_is_new": Mutant(
        "whoever has a new customer is a new buyer",
        {lane_store.bought_as_another: always([])},
        test="tests/billing/checkout/test_terms.py::test_first_time_coupon_of_a_deleted_customer_is_remembered",
    ),
}
