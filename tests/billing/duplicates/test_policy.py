"""The rule about duplicates, as tables: what each one does about money, which stays, which ones may be canceled."""

from typing import Any

import pytest

from billing.duplicates.policy import Candidate, Standing, Wish, credit_in, decide, only_ours
from tests.support.builders import CATALOG, build_subscription, stamp
from tests.support.builders import NOON as T

NOON = stamp(T)
ELSEWHERE: dict[str, Any] = {"metadata": {}}  # of our product by its price only
PAID = {"id": "in_1", "status": "paid", "amount_paid": 900}
FREE = {"id": "in_2", "status": "paid", "amount_paid": 0}
OPEN = {"id": "in_3", "status": "open", "amount_paid": 0}
NOW_PAID, NOW_FREE = {"period": [PAID]}, {"period": [FREE]}
BY_CREDIT = {**FREE, "starting_balance": -900, "ending_balance": 0}

# A letter for each state that a live subscription can be in.
STATES: dict[str, dict[str, Any]] = {
    "A": {"status": "active", "invoices": [PAID]},
    "F": {"status": "active", "invoices": [FREE]},  # a coupon for all of it, or billing that starts later
    "f": {"status": "active", "invoices": [PAID, FREE], **NOW_FREE},  # a year for nothing, given to one who paid before
    "S": {"status": "active", "invoices": [PAID], **NOW_PAID, "schedule": "sub_sched_1"},  # something is planned for it
    "O": {"status": "active", "invoices": [PAID], **NOW_PAID, "is_sold": False},  # our tag, and no price of ours
    "I": {"status": "active", "invoices": [PAID, OPEN]},
    "P": {"status": "active", "invoices": [PAID], "pause_collection": {"behavior": "void"}},
    "E": {"status": "active", "invoices": [PAID], "cancel_at_period_end": True, "cancel_at": NOON + 1000},
    "B": {"status": "active", "invoices": [PAID], "doubted": True},  # paid back, or disputed
    "T": {"status": "trialing", "invoices": [FREE]},
    "t": {"status": "trialing", "invoices": [FREE], "has_card": False},
    "g": {"status": "trialing", "invoices": [PAID, FREE], "has_card": False},  # a trial given to one who paid before
    "G": {"status": "trialing", "invoices": [PAID, FREE], **NOW_FREE},  # the same, with a card
    "D": {"status": "past_due", "invoices": [PAID, OPEN]},
    "d": {"status": "past_due", "invoices": [PAID, OPEN], **NOW_PAID},  # for something small beside the period
    "U": {"status": "unpaid", "invoices": [PAID, OPEN]},
    "N": {"status": "incomplete", "invoices": [OPEN]},
    "Z": {"status": "paused", "invoices": [FREE]},
    "z": {"status": "paused", "invoices": [PAID]},  # by a person: its trial was over
    "X": {"status": "a status that Stripe adds", "invoices": [PAID]},
}
# Rows: the older one; columns: the newer one. o: the older one stays, n: the newer one stays, ?: a person decides.
PAIRS = """
    A S F f I d O P E B T t g G D U N Z z X
  A o ? o o o o ? ? o ? o o o o o o o o ? ?
  S o ? o o o o ? ? o ? o o o o o o o o ? ?
  F ? ? o ? ? ? ? ? ? ? o o ? ? ? ? o o ? ?
  f ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  I ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  d ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  O ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  P ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  E ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  B ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  T ? ? o ? ? ? ? ? ? ? o o ? ? ? ? o o ? ?
  t n n n ? ? ? ? ? ? ? n ? ? ? ? ? ? ? ? ?
  g n n ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  G ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  D n n ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  U n n ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  N n n n ? ? ? ? ? ? ? n ? ? ? ? ? ? ? ? ?
  Z n n n ? ? ? ? ? ? ? n ? ? ? ? ? ? ? ? ?
  z ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
  X ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?
"""
_HEAD, *_ROWS = PAIRS.strip().splitlines()
NEWER = _HEAD.split()
ROWS = {older: verdicts for older, *verdicts in map(str.split, _ROWS)}


def at(second: int, id: str, state: str = "A", **instead: Any) -> Candidate:
    """A candidate in a state, created so many seconds after noon."""
    made = {**STATES[state], **instead}
    more = {name: made.pop(name) for name in ("invoices", "period", "has_card", "is_sold", "doubted") if name in made}
    return Candidate(build_subscription(id, created=NOON + second, currency="usd", **made), **more)


def test_table_has_every_pair() -> None:
    """SUB-16: a state more is a row and a column more."""
    assert ROWS.keys() == set(NEWER) == STATES.keys()


@pytest.mark.parametrize("older", ROWS)
def test_the_one_that_pays_stays_and_unclear_pairs_are_left_to_a_person(older: str) -> None:
    """SUB-16, SUB-18, SUB-68: a row of the table."""
    verdicts = []
    for newer in NEWER:
        decision = decide([at(0, "sub_a", older), at(1, "sub_b", newer)], CATALOG)
        chosen = {("sub_a", ("sub_b",)): "o", ("sub_b", ("sub_a",)): "n"}.get((str(decision.keep), decision.cancel))
        assert (decision.reason is None) == (chosen is not None), newer
        assert chosen or not decision.cancel, newer
        verdicts.append(chosen or "?")
    assert verdicts == ROWS[older]


@pytest.mark.parametrize("older", ROWS)
def test_one_that_was_paid_is_never_canceled_for_one_that_was_not(older: str) -> None:
    """SUB-18: whatever the table says."""
    for newer in NEWER:
        decision = decide([at(0, "sub_a", older), at(1, "sub_b", newer)], CATALOG)
        states = {"sub_a": older, "sub_b": newer}
        for canceled in decision.cancel:
            assert states[str(decision.keep)] in "AS" or states[canceled] not in "ASfIdOPEBgGDUzX", newer


@pytest.mark.parametrize(
    ("states", "keep", "cancel", "needs_a_person"),
    [
        ("", None, (), False),
        ("A", None, (), False),
        ("AAA", "sub_0", ("sub_1", "sub_2"), False),
        ("DAA", "sub_1", ("sub_0", "sub_2"), False),
        ("tNA", "sub_2", ("sub_0", "sub_1"), False),
        ("EAA", None, (), True),  # the oldest may have been meant to stay until its end
        ("AEA", "sub_0", ("sub_1", "sub_2"), False),
        ("APA", "sub_0", ("sub_2",), True),
        ("DPA", None, (), True),
        ("TtN", "sub_0", ("sub_1", "sub_2"), False),
        ("TtD", None, (), True),
        ("DUN", None, (), True),
    ],
)
def test_of_many_all_but_the_one_that_pays_go(states: str, keep: Any, cancel: Any, needs_a_person: bool) -> None:
    """SUB-16"""
    decision = decide([at(each, f"sub_{each}", state) for each, state in enumerate(states)], CATALOG)
    assert (decision.keep, decision.cancel, decision.reason is not None) == (keep, cancel, needs_a_person)


@pytest.mark.parametrize(
    ("candidates", "cancel", "needs_a_person"),
    [
        ([at(0, "sub_a"), at(1, "sub_b", **ELSEWHERE)], (), True),
        ([at(0, "sub_a", **ELSEWHERE), at(1, "sub_b")], ("sub_b",), False),
        ([at(0, "sub_a"), at(1, "sub_b", **ELSEWHERE), at(2, "sub_c")], ("sub_c",), True),
        ([at(0, "sub_a", **ELSEWHERE), at(1, "sub_b", **ELSEWHERE)], (), True),
        ([at(0, "sub_a", "D", **ELSEWHERE), at(1, "sub_b")], (), True),
        ([at(0, "sub_a", "D"), at(1, "sub_b", **ELSEWHERE)], ("sub_a",), False),
        ([at(0, "sub_a"), at(1, "sub_b", metadata={"type": "another"}, price="price_kiloclaw_commit")], (), True),
    ],
)
def test_what_was_made_elsewhere_is_never_canceled(
    candidates: list[Candidate], cancel: Any, needs_a_person: bool
) -> None:
    """SUB-17"""
    decision = decide(candidates, CATALOG)
    assert (decision.cancel, decision.reason is not None) == (cancel, needs_a_person)


@pytest.mark.parametrize(
    ("states", "kept", "cancel"),
    [
        ("AA", {"sub_0"}, ("sub_1",)),
        ("AA", {"sub_1"}, ()),  # the older one has paid meanwhile: its cancellation may still be on its way
        ("DA", {"sub_1"}, ("sub_0",)),
        ("DA", {"sub_0"}, ()),
        ("AA", {"sub_0", "sub_1"}, ()),
        ("AA", {"sub_9"}, ("sub_1",)),  # that one is gone
    ],
)
def test_one_that_was_chosen_to_stay_is_never_canceled_later(states: str, kept: set[str], cancel: Any) -> None:
    """SUB-18: two plans that cross would end both."""
    decision = decide([at(each, f"sub_{each}", state) for each, state in enumerate(states)], CATALOG, kept=kept)
    assert decision.cancel == cancel
    assert (decision.reason is None) == bool(cancel)


def test_person_reads_what_each_one_is_and_what_to_do() -> None:
    """SUB-21"""
    reason = decide([at(0, "sub_a", "P"), at(1, "sub_b")], CATALOG).reason or ""
    assert "sub_a was paused by a person (active; paid 9.00 USD)" in reason
    assert "sub_b pays (active; paid 9.00 USD)" in reason
    assert "has to cancel at Stripe" in reason


@pytest.mark.parametrize(
    ("invoice", "credit"),
    [
        (BY_CREDIT, 900),
        ({**BY_CREDIT, "starting_balance": -1000, "ending_balance": -100}, 900),
        ({**BY_CREDIT, "starting_balance": -50, "ending_balance": 20}, 50),  # too little to be charged now
        ({**BY_CREDIT, "starting_balance": 500}, 0),  # a debt that was billed with it
        ({**BY_CREDIT, "starting_balance": 0}, 0),
        ({**BY_CREDIT, "starting_balance": 0, "ending_balance": -500}, 0),  # it gave credit, and took none
        ({**BY_CREDIT, "status": "draft", "ending_balance": None}, 0),
        ({**BY_CREDIT, "status": "void"}, 0),  # Stripe has given it back
        ({}, 0),
    ],
)
def test_credit_in_an_invoice_is_what_it_took_of_the_balance(invoice: dict[str, Any], credit: int) -> None:
    """SUB-19"""
    assert credit_in(invoice) == credit


@pytest.mark.parametrize(
    ("state", "instead", "standing"),
    [
        ("A", {}, Standing.PAYS),  # no invoice says what is for this period
        ("A", NOW_PAID, Standing.PAYS),
        ("A", {"period": [FREE, PAID]}, Standing.FREE),  # billed anew, over nothing
        ("A", {"period": [PAID, FREE]}, Standing.PAYS),
        ("A", {"period": [{**PAID, "amount_paid": 1}]}, Standing.PAYS),
        ("A", {"cancel_at_period_end": True}, Standing.ENDS),
        ("A", {"cancel_at": NOON + 1000}, Standing.ENDS),
        ("A", {"invoices": [PAID, {**OPEN, "status": "uncollectible"}]}, Standing.OPEN),
        ("A", {"invoices": [PAID, {**OPEN, "status": "draft"}]}, Standing.PAYS),
        ("G", {"period": []}, Standing.FREE),
        ("G", NOW_PAID, Standing.FREE),
        ("d", {"period": [OPEN, PAID]}, Standing.STOPPED),  # the newer bill of the period is what counts
        ("N", {"doubted": True}, Standing.DOUBTED),
        ("O", {"cancel_at_period_end": True}, Standing.NOT_SOLD),
        ("B", {"pause_collection": {"behavior": "void"}}, Standing.PAUSED),
    ],
)
def test_standing_is_by_the_newest_bill_of_the_period(state: str, instead: Any, standing: Standing) -> None:
    """SUB-68, SUB-117"""
    assert at(0, "sub_a", state, **instead).standing() is standing


def test_of_two_that_were_made_in_one_second_the_lesser_id_is_the_older() -> None:
    """SUB-16: so every worker decides the same."""
    made = [build_subscription("sub_b"), build_subscription("sub_a"), build_subscription("sub_0", created=NOON + 1)]
    assert [one["id"] for one in only_ours(made, CATALOG)] == ["sub_a", "sub_b", "sub_0"]


@pytest.mark.parametrize(
    ("wish", "by_policy", "keep", "cancel"),
    [
        (Wish("sub_1", ("sub_0",)), False, "sub_1", ("sub_0",)),
        (Wish("sub_0", ("sub_1",)), True, "sub_0", ("sub_1",)),
        (Wish("sub_1", ("sub_0", "sub_2")), False, "sub_1", ("sub_0", "sub_2")),
        (Wish("sub_1", ("sub_9",)), False, None, ()),  # what was to go is gone
        (Wish("sub_9", ("sub_0",)), False, None, ()),  # what was to stay is gone
        (Wish("sub_9", ("sub_0",)), True, "sub_0", ("sub_1", "sub_2")),  # then the policy
        (None, False, None, ()),
    ],
)
def test_persons_wish_goes_before_the_policy_while_it_can_be_fulfilled(
    wish: Wish | None, by_policy: bool, keep: str | None, cancel: tuple[str, ...]
) -> None:
    """SUB-130: also about what was made elsewhere."""
    candidates = [at(0, "sub_0", **(ELSEWHERE if wish and not by_policy else {})), at(1, "sub_1"), at(2, "sub_2")]
    decision = decide(candidates, CATALOG, wish=wish, by_policy=by_policy)
    assert (decision.keep, decision.cancel) == (keep, cancel)
    assert (decision.reason is None) == (len(cancel) == 2)


def test_one_paid_by_credit_or_outside_stripe_pays() -> None:
    """SUB-16"""
    for paid in (BY_CREDIT, {**FREE, "amount_due": 900}):
        assert at(0, "sub_a", invoices=[paid], period=[paid]).standing() is Standing.PAYS
    assert at(0, "sub_a", invoices=[OPEN | {"status": "void", "amount_due": 900}]).standing() is Standing.PROMISES
