"""The shortcuts of the protocol page, as switchable changes of the real code. None of them is in the shipped package.

Each rewrites a function's source, so that a mutant cannot silently mean nothing after the code has changed: text
that is not found is an error. A mutant names what kills it: a scene in which the explorer finds a counterexample, or
the test that decides it in one step. `tests/races/test_mutants.py` holds that each of them dies.

For a whole run of pytest, `tests.races.switch` switches one on.
"""

import inspect
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from billing.checkout import lane_store, steps, verify, view, work
from billing.checkout.parameters import session_parameters
from billing.checkout.rules import LOOK_BACK, Attempt, is_tagged
from billing.customers.customers import ensure_customer
from billing.errors import OnelaneError
from billing.models import LaneState, lanes
from billing.stripe_gateway import GatewayClient
from tests.races.explorer import Scene
from tests.support import checkout_world

Patch = pytest.MonkeyPatch


FAULTS, STORE, CHECKOUT = (f"tests/billing/checkout/test_{name}.py" for name in ("lane_faults", "lane_store", "work"))


@dataclass(frozen=True)
class Mutant:
    """A shortcut, how it is switched on, and what it dies of: a scene of the explorer, or one test."""

    shortcut: str
    apply: Callable[[Patch], None]
    scene: Scene | None = None
    test: str | None = None


def rewrite(module: ModuleType, name: str, *changes: tuple[str, str], users: tuple[ModuleType, ...] = ()) -> Any:
    """Replace a module's function by one with other text, here and where it was imported to."""

    def apply(patch: Patch) -> None:
        source = inspect.getsource(getattr(module, name))
        for old, new in changes:
            assert old in source, f"{module.__name__}.{name} no longer reads {old!r}: mend this mutant"
            source = source.replace(old, new)
        space = dict(vars(module))
        exec(source, space)
        made = space[name]
        # Its globals are the module's own again, so that other mutants and patches reach it.
        function = type(made)(made.__code__, vars(module), name, made.__defaults__, made.__closure__)
        function.__kwdefaults__ = made.__kwdefaults__
        for user in (module, *users):
            patch.setattr(user, name, function)

    return apply


def statement(module: ModuleType, name: str, change: Callable[[Any], Any]) -> Any:
    """Replace a module's statement."""
    return lambda patch: patch.setattr(module, name, change(getattr(module, name)))


def new_key(patch: Patch) -> None:
    """Whoever sends makes a key of their own."""
    real = GatewayClient.create_session

    def create_session(self: GatewayClient, parameters: Any, *, idempotency_key: str) -> str:
        return real(self, parameters, idempotency_key=str(uuid.uuid4()))

    patch.setattr(GatewayClient, "create_session", create_session)


def stale_against_now(patch: Patch) -> None:
    """Staleness judged at the moment of the pass."""

    def answer(seen: Any, mine: Any, at: Any) -> bool:
        return real(seen, replace(mine, arrived_at=at.clock.now()), at)

    real = steps.answer
    patch.setattr(work, "answer", answer)


def pending_first(patch: Patch) -> None:
    """A round takes who waits from a look of its own, before it reads the lane."""
    real_look, real_read, mine = work._look, lane_store.read_snapshot, threading.local()

    def look(lane_id: int, at: Any) -> Any:
        with at.database.read() as connection:
            mine.waiting = real_read(connection, lane_id, now=at.clock.now()).waiting
        return real_look(lane_id, at)

    def read_snapshot(connection: Any, lane_id: int, *, now: Any) -> Any:
        return replace(real_read(connection, lane_id, now=now), waiting=mine.waiting)

    patch.setattr(work, "_look", look)
    patch.setattr(lane_store, "read_snapshot", read_snapshot)


def any_supersedes(patch: Patch) -> None:
    """The pass is made for the oldest that waits, and whoever differs is superseded."""
    oldest = property(lambda seen: seen.waiting[0] if seen.waiting else None)
    patch.setattr(lane_store.Snapshot, "newest", oldest)
    rewrite(lane_store, "supersede_older", ("checkouts.c.number < newest.number,", ""))(patch)


def no_expires_at(patch: Patch) -> None:
    """Sessions live as long as Stripe lets them: nothing stops a request that was sent a day late."""
    real = GatewayClient.create_session

    def create_session(self: GatewayClient, parameters: Any, *, idempotency_key: str) -> str:
        kept = {name: value for name, value in parameters.items() if name != "expires_at"}
        return real(self, kept, idempotency_key=idempotency_key)

    patch.setattr(GatewayClient, "create_session", create_session)


def list_expire_create(patch: Patch) -> None:
    """The usual way, in a ledger like ours: no lock, no compare-and-set, no second look."""

    def work_lane(
        lane_id: int, *, database: Any, stripe: Any, wakeups: Any, clock: Any, catalog: Any, **_: Any
    ) -> None:
        at = steps.Context(database, stripe, wakeups, clock, catalog, 900)
        seen = work._look(lane_id, at)
        mine = seen.newest if seen else None
        if seen is None or mine is None:
            return
        places = {"database": database, "stripe": stripe, "clock": clock}
        customer_id = seen.customer_id or ensure_customer(seen.lane.user_id, **places)
        for session in stripe.list_sessions(customer_id, created_since=stripe.now() - LOOK_BACK):
            if session["status"] == "open" and is_tagged(session, catalog.product):
                with suppress(OnelaneError):
                    stripe.expire_session(session["id"])
        nonce, expires_at = str(uuid.uuid4()), stripe.now() + timedelta(hours=23)
        whose = {"user_id": seen.lane.user_id, "customer_id": customer_id, "nonce": nonce, "first_time": True}
        sent = session_parameters(mine, catalog=catalog, expires_at=expires_at, now=clock.now(), **whose)
        with suppress(OnelaneError):
            session_id = stripe.create_session(sent, idempotency_key=nonce)
            made = Attempt(nonce, lane_id, mine.id, nonce, sent, mine.fingerprint, clock.now(), expires_at, session_id)
            with database.write() as connection:
                lane_store.insert_attempt(connection, made)
                opened = {"state": LaneState.OPEN, "nonce": nonce, "session_id": session_id}
                connection.execute(lanes.update().where(lanes.c.id == lane_id).values(**opened))
                lane = replace(seen.lane, nonce=nonce)
                lane_store.answer(connection, lane, mine, url="https://pay.example", now=clock.now())

    patch.setattr(checkout_world, "work_lane", work_lane)


MUTANTS = {
    "list_expire_create": Mutant(
        "no lock: list, expire, create",
        list_expire_create,
        scene=Scene(plans=("standard", "commit")),
    ),
    "key_from_number": Mutant(
        "a key made from the attempt's number alone",
        rewrite(steps, "_attempt", ('f"onelane-{nonce}"', 'f"onelane-{mine.lane_id}-{seen.lane.version}"')),
        scene=Scene(plans=("standard",), restored=True, pays=False),
    ),
    "new_key": Mutant(
        "a new idempotency key when taking over",
        new_key,
        scene=Scene(lossy=0.25),
    ),
    "no_cas": Mutant(
        "no compare-and-set at all",
        rewrite(
            lane_store,
            "move",
            ("lanes.c.state == lane.state,", ""),
            ("lanes.c.version == lane.version,", ""),
            ("lanes.c.nonce.is_not_distinct_from(lane.nonce),", ""),
        ),
        scene=Scene(opened=True),
    ),
    "cas_on_version": Mutant(
        "a compare-and-set on the version alone (a restored backup repeats it)",
        rewrite(lane_store, "move", ("lanes.c.nonce.is_not_distinct_from(lane.nonce),", "")),
        test=f"{STORE}::test_lane_restored_from_a_backup_is_not_taken_for_unchanged",
    ),
    "cas_on_state": Mutant(
        "a compare-and-set on the state alone (A, B, A)",
        rewrite(
            lane_store,
            "move",
            ("lanes.c.version == lane.version,", ""),
            ("lanes.c.nonce.is_not_distinct_from(lane.nonce),", ""),
        ),
        scene=Scene(plans=("commit", "standard", "commit"), opened=True, pays=False),
    ),
    "trust_the_answer": Mutant(
        "trust status or url in the create's answer",
        rewrite(steps, "answer", ('session["status"] != "open"', "False"), users=(work,)),
        scene=Scene(plans=("standard",), opened=True, dashboard=True),
    ),
    "expire_first": Mutant(
        "call expire before committing closing",
        rewrite(
            steps,
            "_begin_closing",
            ("    with ctx.database", "    expire(lane.session_id, stripe=ctx.stripe)\n    with ctx.database"),
        ),
        scene=Scene(plans=("standard", "commit"), opened=True, pays=False),
    ),
    "answer_without_cas": Mutant(
        "answer without the compare-and-set",
        rewrite(lane_store, "answer", ("if connection.execute(_HIT, own).rowcount != 1:", "if False:")),
        scene=Scene(plans=("standard", "commit"), opened=True, pays=False),
    ),
    "stored_url": Mutant(
        "the web answers from a stored URL",
        rewrite(view, "_shown", ("if status is not CheckoutStatus.OPEN:", "if True:")),
        scene=Scene(plans=("standard", "commit", "standard"), pays=False),
    ),
    "version_not_raised": Mutant(
        "an answer that does not raise the version",
        statement(lane_store, "_HIT", lambda hit: hit.values(version=lanes.c.version)),
        scene=Scene(plans=("commit", "standard"), opened=True, pays=False),
    ),
    "newer_too": Mutant(
        "an answer that also answers newer equal checkouts",
        rewrite(lane_store, "answer", ('"up_to": mine.number', '"up_to": mine.number + 1000')),
        scene=Scene(plans=("standard", "commit", "standard"), opened=True, pays=False),
    ),
    "pending_first": Mutant(
        "pending read before the lane",
        pending_first,
        scene=Scene(plans=("commit", "standard"), opened=True, pays=False),
    ),
    "fail_mine": Mutant(
        "fail mine instead of whoever equals the refused attempt",
        rewrite(
            steps,
            "create",
            ("fingerprint=attempt.fingerprint,", "fingerprint=(seen.newest or attempt).fingerprint,"),
            users=(work,),
        ),
        scene=Scene(plans=("standard", "commit"), lossy=0.25, lacks="standard"),
    ),
    "sql_before_list": Mutant(
        "read SQL before listing strays",
        rewrite(
            verify,
            "verify",
            (
                "    sessions, subscriptions = _read(",
                "    nonce, session_id = owned()\n    sessions, subscriptions = _read(",
            ),
            ("        nonce, session_id = owned()\n        found", "        found"),
            users=(steps,),
        ),
        scene=Scene(plans=("standard", "commit"), pays=False),
    ),
    "open_only": Mutant(
        "list only open sessions in step 3",
        rewrite(
            verify,
            "_read",
            (
                "[*tagged, *(one for one in fetched if one)]",
                '[one for one in [*tagged, *fetched] if one and one["status"] == "open"]',
            ),
        ),
        scene=Scene(plans=("commit",), opened=True, lag_seconds=30),
    ),
    "no_second_list": Mutant(
        "no second look at subscriptions after a refused expire",
        rewrite(
            verify,
            "verify",
            ("    if found:", "    if False:"),
            ("_subscriptions_of(sessions.values(), subscriptions, stripe=stripe)", "{}"),
            users=(steps,),
        ),
        scene=Scene(plans=("standard",), legacy=True, lag_seconds=30),
    ),
    "any_supersedes": Mutant(
        "any pending checkout may supersede, not only the newest",
        any_supersedes,
        scene=Scene(plans=("standard", "commit", "standard"), pays=False),
    ),
    "stale_against_now": Mutant(
        "staleness judged against now",
        stale_against_now,
        test=f"{CHECKOUT}::test_stale_is_judged_by_arrival_not_by_now",
    ),
    "no_expires_at": Mutant(
        "no absolute expires_at",
        no_expires_at,
        scene=Scene(plans=("standard",), day=True, pays=False),
    ),
    "swallow": Mutant(
        "swallow every expire error",
        rewrite(verify, "expire", ("except StripeMissing:", "except Exception:"), users=(steps,)),
        scene=Scene(plans=("commit",), opened=True, lost_expires=4),
    ),
    "expire_error_is_fatal": Mutant(
        "treat every expire error as fatal",
        rewrite(
            verify,
            "expire",
            ("    except StripeRefused as refused:\n", "    except StripeRefused as refused:\n        raise\n"),
            users=(steps,),
        ),
        scene=Scene(plans=("commit",), opened=True),
    ),
}
