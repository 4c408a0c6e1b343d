"""The shortcuts of the protocol page, as switchable changes of the real code. None of them is in the shipped package.

Each rewrites a function's source, so that a mutant cannot silently mean nothing after the code has changed: text
that is not found is an error. A mutant names what kills it: a scene in which the explorer finds a counterexample, or
the test that decides it in one step. `tests/races/test_mutants.py` holds that each of them dies.

As a pytest plugin (`MUTANT=name pytest -p tests.races.mutants ...`) it switches one on for a whole run.
"""

import inspect
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest

from billing.checkout import lane_ledger, steps, verify, view, work
from billing.stripe_gateway import LiveStripe
from tests.races.explorer import Scene

Patch = pytest.MonkeyPatch


FAULTS, LEDGER, CHECKOUT = (f"tests/billing/test_{name}.py" for name in ("lane_faults", "lane_ledger", "checkout"))


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


def new_key(patch: Patch) -> None:
    """Whoever sends makes a key of their own."""
    real = LiveStripe.create_session

    def create_session(self: LiveStripe, parameters: Any, *, idempotency_key: str) -> str:
        return real(self, parameters, idempotency_key=str(uuid.uuid4()))

    patch.setattr(LiveStripe, "create_session", create_session)


def stale_against_now(patch: Patch) -> None:
    """Staleness judged at the moment of the pass."""

    def answer(seen: Any, mine: Any, at: Any) -> bool:
        return real(seen, replace(mine, arrived_at=at.clock.now()), at)

    real = steps.answer
    patch.setattr(work, "answer", answer)


def oldest_first(patch: Patch) -> None:
    """The pass is made for the oldest that waits."""
    oldest = property(lambda seen: seen.waiting[0] if seen.waiting else None)
    patch.setattr(lane_ledger.Snapshot, "newest", oldest)


def no_expires_at(patch: Patch) -> None:
    """Sessions live as long as Stripe lets them: nothing stops a request that was sent a day late."""
    real = LiveStripe.create_session

    def create_session(self: LiveStripe, parameters: Any, *, idempotency_key: str) -> str:
        kept = {name: value for name, value in parameters.items() if name != "expires_at"}
        return real(self, kept, idempotency_key=idempotency_key)

    patch.setattr(LiveStripe, "create_session", create_session)


MUTANTS = {
    "new_key": Mutant("a new idempotency key when taking over", new_key, scene=Scene(lossy=0.25)),
    "no_cas": Mutant(
        "no compare-and-set at all",
        rewrite(
            lane_ledger,
            "move",
            ("lanes.c.state == lane.state,", ""),
            ("lanes.c.version == lane.version,", ""),
            ("lanes.c.nonce.is_not_distinct_from(lane.nonce),", ""),
        ),
        scene=Scene(opened=True),
    ),
    "cas_on_version": Mutant(
        "a compare-and-set on the version alone (a restored backup repeats it)",
        rewrite(lane_ledger, "move", ("lanes.c.nonce.is_not_distinct_from(lane.nonce),", "")),
        test=f"{LEDGER}::test_lane_restored_from_a_backup_is_not_taken_for_unchanged",
    ),
    "cas_on_state": Mutant(
        "a compare-and-set on the state alone (A, B, A)",
        rewrite(
            lane_ledger,
            "move",
            ("lanes.c.version == lane.version,", ""),
            ("lanes.c.nonce.is_not_distinct_from(lane.nonce),", ""),
        ),
        test=f"{LEDGER}::test_lane_that_changed_and_changed_back_is_not_taken_for_unchanged",
    ),
    "trust_the_answer": Mutant(
        "trust status or url in the create's answer",
        rewrite(steps, "answer", ('session["status"] != "open"', "False"), users=(work,)),
        test=f"{FAULTS}::test_only_the_id_is_taken_from_the_answer_to_a_creation",
    ),
    "expire_first": Mutant(
        "call expire before committing closing",
        rewrite(
            steps,
            "_begin_closing",
            ("    with at.database", "    expire(lane.session_id, stripe=at.stripe)\n    with at.database"),
        ),
        test=f"{FAULTS}::test_closing_is_committed_before_the_expire_is_sent",
    ),
    "answer_without_cas": Mutant(
        "answer without the compare-and-set",
        rewrite(lane_ledger, "answer", ("if hit.rowcount != 1:", "if False:")),
        test=f"{LEDGER}::test_answer_after_the_lane_moved_on_answers_nobody",
    ),
    "stored_url": Mutant(
        "the web answers from a stored URL",
        rewrite(view, "_shown", ("if status is not CheckoutStatus.OPEN:", "if True:")),
        scene=Scene(plans=("standard", "commit", "standard"), pays=False),
    ),
    "version_not_raised": Mutant(
        "an answer that does not raise the version",
        rewrite(lane_ledger, "answer", (".values(version=lanes.c.version + 1, ", ".values(")),
        test=f"{LEDGER}::test_answer_voids_what_others_have_read",
    ),
    "newer_too": Mutant(
        "an answer that also answers newer equal checkouts",
        rewrite(lane_ledger, "answer", ("checkouts.c.number <= mine.number,", "")),
        test=f"{LEDGER}::test_answer_leaves_newer_checkouts_to_a_pass_of_their_own",
    ),
    "pending_first": Mutant(
        "pending read before the lane",
        rewrite(
            lane_ledger,
            "read_snapshot",
            ("    lane = _lane(connection.execute(sa.select(*_LANE).where(lanes.c.id == lane_id)).one())\n", ""),
            (
                "    recent = ",
                "    lane = _lane(connection.execute(sa.select(*_LANE).where(lanes.c.id == lane_id)).one())\n"
                "    recent = ",
            ),
        ),
        test=f"{LEDGER}::test_checkout_that_arrives_between_the_two_reads_is_seen",
    ),
    "fail_mine": Mutant(
        "fail mine instead of whoever equals the refused attempt",
        rewrite(
            steps,
            "create",
            ("fingerprint=attempt.fingerprint,", "fingerprint=(seen.newest or attempt).fingerprint,"),
            users=(work,),
        ),
        test=f"{FAULTS}::test_another_ones_bad_attempt_does_not_fail_a_good_checkout",
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
            ("    nonce, session_id = owned()\n    found", "    found"),
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
        test=f"{FAULTS}::test_completed_session_whose_subscription_the_list_lacks_still_blocks",
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
        test=f"{FAULTS}::test_paid_stray_blocks_although_every_list_lags",
    ),
    "any_supersedes": Mutant(
        "any pending checkout may supersede, not only the newest",
        oldest_first,
        test=f"{FAULTS}::test_another_ones_bad_attempt_does_not_fail_a_good_checkout",
    ),
    "stale_against_now": Mutant(
        "staleness judged against now",
        stale_against_now,
        test=f"{CHECKOUT}::test_stale_is_judged_by_arrival_not_by_now",
    ),
    "no_expires_at": Mutant(
        "no absolute expires_at",
        no_expires_at,
        test=f"{FAULTS}::test_worker_frozen_for_a_day_creates_nothing",
    ),
    "swallow": Mutant(
        "swallow every expire error",
        rewrite(verify, "expire", ("except StripeMissing:", "except Exception:"), users=(steps,)),
        test=f"{FAULTS}::test_buyer_who_pays_while_the_expire_is_under_way_is_already_subscribed",
    ),
    "expire_error_is_fatal": Mutant(
        "treat every expire error as fatal",
        rewrite(
            verify,
            "expire",
            ("    except StripeRefused as refused:\n", "    except StripeRefused as refused:\n        raise\n"),
            users=(steps,),
        ),
        test=f"{FAULTS}::test_session_that_is_gone_does_not_block",
    ),
}


def pytest_configure() -> None:
    """As a plugin: switch one mutant on."""
    if name := os.environ.get("MUTANT"):
        MUTANTS[name].apply(pytest.MonkeyPatch())
