"""What an operation does next, as tables: of what Stripe shows and what was sent before."""

from datetime import timedelta
from typing import Any

import pytest

from billing.errors import OPERATORS
from billing.operations.calls import Call, Done, Governed, Kind, Next, Sent, Snapshot, Write
from billing.operations.decide import decide
from billing.operations.phases import write_phases
from tests.support.builders import CATALOG, NOON, build_subscription, stamp

Json = dict[str, Any]
START, DAY = stamp(NOON), 86_400
END, TERM = START + 30 * DAY, START + 330 * DAY
of_product = CATALOG.plans["standard"].model_copy(update={"stripe_product": "prod_1"})
yearly = CATALOG.plans["commit"].model_copy(update={"key": "yearly", "price": "price_yearly", "interval": "year"})
usage = CATALOG.plans["standard"].model_copy(update={"key": "usage", "price": "price_usage", "metered": True})
MORE = CATALOG.model_copy(update={"plans": {**CATALOG.plans, "standard": of_product, "yearly": yearly, "usage": usage}})
BY_HAND = {"id": "price_by_hand", "product": "prod_1"}
STANDARD, COMMIT = (CATALOG.plans[name].price for name in ("standard", "commit"))
DONE = "done"


def brief(step: Next) -> Any:
    """A write and its target, that it is done, or why not."""
    if isinstance(step, Call):
        return (step.name, step.target)
    return DONE if isinstance(step, Done) else step.code


def sub(id: str = "sub_1", schedule: Json | None = None, **fields: Any) -> Governed:
    """A subscription to the standard plan in a running period, perhaps under a schedule."""
    made = build_subscription(id, schedule=schedule and schedule["id"], **fields)
    return Governed(made, schedule)


def asked(kind: Kind, shown: Governed | None = None, *others: Governed, plan: str = "commit", **more: Any) -> Next:
    """What is next, five days into the period."""
    known = {name: more.pop(name, before) for name, before in {"sent": (), "failed": False, "catalog": CATALOG}.items()}
    snapshot = Snapshot("cus_1", shown, others, **more)
    return decide(kind, {"plan": plan}, snapshot, now=NOON + timedelta(days=5), **known)


def phase(price: str = STANDARD, start: int = START, end: int = END, **fields: Any) -> Json:
    """A phase as Stripe shows it."""
    return {"start_date": start, "end_date": end, "items": [{"price": price, "quantity": 1}], **fields}


BARE: Json = {"id": "sub_sched_bare", "status": "active", "end_behavior": "release", "metadata": {}}
BARE |= {"current_phase": {"start_date": START, "end_date": END}, "phases": [phase()]}


def planned(plan: str = "commit") -> Json:
    """A schedule of ours: the other plan comes next."""
    [item] = sub().subscription["items"]["data"]
    sent = write_phases(BARE, sub().subscription, item, CATALOG.plans[plan], CATALOG.product)
    later = {name: value for name, value in sent["phases"][1].items() if name != "duration"}
    phases = [phase(), {**later, "start_date": END, "end_date": TERM}]
    return {**BARE, **sent, "id": "sub_sched_ours", "phases": phases}


OURS = planned()
RUNS = {**OURS, "current_phase": {"start_date": END, "end_date": TERM}}  # the other plan has come
THEIRS: Json = {**BARE, "id": "sub_sched_theirs", "phases": [phase(), phase(COMMIT, END, TERM)]}
GIFT: Json = {**THEIRS, "end_behavior": "cancel", "phases": [phase(), phase(STANDARD, END, TERM)]}
OVER = {"status": "canceled"}
ENDING = {"cancel_at_period_end": True}
FIXED = {"cancel_at": TERM, "canceled_at": START + DAY}
SCHEDULED, PHASED = Sent(Write.SCHEDULE, "sub_1"), Sent(Write.PHASES, "sub_1")


def cancelled(id: str = "sub_1", ends_at: int = END) -> Sent:
    """A cancellation that was answered."""
    return Sent(Write.CANCEL, id, ends_at=ends_at)


def refused(id: str = "sub_1") -> Sent:
    """A cancellation that Stripe refused."""
    return Sent(Write.CANCEL, id, refused={"code": "stripe_refused", "detail": "No.", OPERATORS: "POST: no"})


def to_come(id: str = "sub_sched_9") -> Json:
    """Somebody planned that a subscription begins."""
    return {"id": id, "status": "not_started", "phases": [phase(start=END)]}


CANCEL_1, CANCEL_2 = (Write.CANCEL, "sub_1"), (Write.CANCEL, "sub_2")


@pytest.mark.parametrize(
    ("subscriptions", "sent", "answer"),
    [
        ([], [], "no_subscription"),
        ([sub()], [], CANCEL_1),
        ([sub(**OVER)], [], "no_subscription"),
        ([sub(**OVER)], [cancelled()], DONE),  # it ended meanwhile
        ([sub(**OVER)], [refused()], "no_subscription"),
        ([sub(**OVER)], [Sent(Write.RELEASE, "sub_1")], "no_subscription"),
        ([sub(**ENDING)], [], "already_canceling"),
        ([sub(**ENDING)], [cancelled()], DONE),
        ([sub(**ENDING)], [cancelled("sub_2")], "already_canceling"),
        ([sub(**ENDING)], [Sent(Write.CANCEL)], DONE),  # a row of an earlier version
        ([sub(**FIXED)], [], CANCEL_1),
        ([sub(**FIXED)], [cancelled()], CANCEL_1),  # its key was too old to be sent
        ([sub(status="incomplete")], [], "payment_in_progress"),
        ([sub()], [refused()], "stripe_refused"),
        # several
        ([sub(), sub("sub_2")], [], CANCEL_1),
        ([sub(**OVER), sub("sub_2")], [], CANCEL_2),
        ([None, sub("sub_2")], [], CANCEL_2),
        ([sub(**ENDING), sub("sub_2")], [cancelled()], CANCEL_2),
        ([sub(**ENDING), sub("sub_2")], [], CANCEL_2),
        ([sub(**ENDING), sub("sub_2", **ENDING)], [cancelled("sub_2")], DONE),
        ([sub(**ENDING), sub("sub_2", **ENDING)], [], "already_canceling"),
        ([sub(status="incomplete"), sub("sub_2")], [], CANCEL_2),
        ([sub(status="incomplete"), sub("sub_2", **ENDING)], [cancelled("sub_2")], "payment_in_progress"),
        ([sub(), sub("sub_2")], [refused()], CANCEL_2),
        ([sub(), sub("sub_2", **ENDING)], [refused(), cancelled("sub_2")], "stripe_refused"),
        # under a schedule
        ([sub(schedule=BARE)], [], (Write.RELEASE, BARE["id"])),
        ([sub(schedule=OURS)], [], (Write.RELEASE, OURS["id"])),
        ([sub(schedule=RUNS, price=COMMIT)], [], (Write.RELEASE, OURS["id"])),
        ([sub(schedule=THEIRS)], [], "managed_elsewhere"),
        ([sub(schedule={**THEIRS, "status": "released"})], [], CANCEL_1),
        ([sub(schedule={**BARE, "metadata": {"by": "finance"}})], [], "managed_elsewhere"),
        ([sub(schedule={**BARE, "end_behavior": "cancel"})], [], "managed_elsewhere"),
        ([sub(schedule={**BARE, "phases": [phase(end=END + DAY)]})], [], "managed_elsewhere"),
        ([sub(schedule=THEIRS), sub("sub_2")], [], CANCEL_2),
    ],
)
def test_cancelling_ends_what_is_live_one_after_the_other(
    subscriptions: list[Any], sent: list[Sent], answer: Any
) -> None:
    """SUB-31, SUB-32, SUB-83, SUB-84"""
    assert brief(asked(Kind.CANCEL, *subscriptions, sent=sent)) == answer


@pytest.mark.parametrize(
    ("subscriptions", "sent", "coming", "billing", "ended"),
    [
        ([sub(schedule=THEIRS), sub("sub_2", **ENDING)], [cancelled("sub_2")], [], ["sub_1"], True),
        ([sub(schedule=THEIRS), sub("sub_2", schedule={**THEIRS})], [], [], ["sub_1", "sub_2"], False),
        ([sub(schedule=THEIRS), sub("sub_2", **ENDING)], [], [], ["sub_1"], True),
        ([sub(**ENDING)], [cancelled()], [to_come()], ["sub_sched_9"], True),
        ([sub(**OVER)], [cancelled()], [to_come()], ["sub_sched_9"], False),
        ([], [], [to_come(), to_come("sub_sched_8")], ["sub_sched_9", "sub_sched_8"], False),
        ([sub(schedule=THEIRS)], [], [to_come()], ["sub_1", "sub_sched_9"], False),
    ],
)
def test_what_goes_on_is_named_each_by_its_id(
    subscriptions: list[Governed], sent: list[Sent], coming: list[Json], billing: list[str], ended: bool
) -> None:
    """SUB-84, SUB-89"""
    step: Any = asked(Kind.CANCEL, *subscriptions, sent=sent, coming=coming)
    assert brief(step) == "managed_elsewhere"
    assert [one["id"] for one in step.extra["still_billing"]] == billing
    assert step.extra["managed_by"] == "schedule"
    assert ("The other ends" in step.detail) is ended


def test_only_one_that_goes_on_alone_is_refused_by_its_own_sentence() -> None:
    """SUB-83, SUB-84: there is no other to name; what only operators read stays apart."""
    step: Any = asked(Kind.CANCEL, sub(schedule=THEIRS))
    assert (step.extra["schedule_id"], "still_billing" in step.extra) == (THEIRS["id"], False)
    two: Any = asked(Kind.CANCEL, sub(), sub("sub_2"), sent=[refused(), refused("sub_2")])
    assert two.extra[OPERATORS] == "POST: no POST: no"
    assert OPERATORS not in str(two.extra["still_billing"])


@pytest.mark.parametrize(
    ("shown", "sent", "answer"),
    [
        (None, [], "no_subscription"),
        (sub(**OVER), [], "no_subscription"),
        (sub(status="incomplete"), [], "payment_in_progress"),
        (sub(), [], DONE),
        (sub(schedule=THEIRS), [], DONE),  # nothing ends it
        (sub(**ENDING), [], (Write.REACTIVATE, "sub_1")),
        (sub(**ENDING, schedule=GIFT), [], "managed_elsewhere"),
        (sub(**FIXED), [], "managed_elsewhere"),
        (sub(**FIXED), [Sent(Write.REACTIVATE, "sub_1")], DONE),  # the term holds again
        (sub(**FIXED), [Sent(Write.REACTIVATE, "sub_2")], "managed_elsewhere"),
    ],
)
def test_reactivating_takes_back_a_cancellation_alone(shown: Governed | None, sent: list[Sent], answer: Any) -> None:
    """SUB-33, SUB-85"""
    assert brief(asked(Kind.REACTIVATE, shown, sent=sent)) == answer


@pytest.mark.parametrize(
    ("shown", "more", "answer"),
    [
        (None, {}, "no_subscription"),
        (sub(**OVER), {}, "no_subscription"),
        (sub(status="incomplete"), {}, "payment_in_progress"),
        (sub(status="paused"), {}, "not_switchable"),
        (sub(), {"plan": "gold"}, "invalid_request"),
        (sub(), {}, (Write.SCHEDULE, "sub_1")),
        (sub(), {"plan": "standard"}, "already_on_plan"),
        (sub(price=COMMIT), {"sent": [PHASED]}, DONE),  # the period ended meanwhile
        (sub(item={"quantity": 0}), {}, "invalid_request"),
        (sub(item={"quantity": 2}), {}, "invalid_request"),
        (sub(item={"quantity": None}), {}, (Write.SCHEDULE, "sub_1")),
        (sub(item={"quantity": 3}), {"plan": "usage", "catalog": MORE}, (Write.SCHEDULE, "sub_1")),
        (
            sub(item={"price": {"id": "price_by_hand", "product": "prod_1"}}),
            {"catalog": MORE},
            (Write.SCHEDULE, "sub_1"),
        ),
        (sub(**ENDING), {}, "already_canceling"),
        (sub(**FIXED), {}, "managed_elsewhere"),
        # under a schedule
        (sub(schedule=BARE), {}, (Write.PHASES, BARE["id"])),
        (sub(schedule=BARE), {"sent": [SCHEDULED]}, (Write.PHASES, BARE["id"])),
        (sub(schedule=THEIRS), {}, "managed_elsewhere"),
        (sub(schedule={**THEIRS, "status": "released"}), {}, (Write.SCHEDULE, "sub_1")),
        (sub(schedule=OURS), {}, DONE),  # it is planned
        (sub(schedule=OURS), {"plan": "yearly", "catalog": MORE}, (Write.PHASES, OURS["id"])),  # in its place
        (sub(schedule=OURS, discounts=["di_1"]), {}, (Write.RELEASE, OURS["id"])),  # and something was added since
        (sub(schedule=BARE, discounts=["di_1"]), {}, (Write.RELEASE, BARE["id"])),
        (sub(schedule=BARE, discounts=["di_1"]), {"sent": [SCHEDULED]}, (Write.PHASES, BARE["id"])),
        (sub(schedule={**BARE, "phases": [phase(novelty="on")]}), {}, "not_switchable"),
        # a write of it was refused
        (sub(schedule=BARE), {"failed": True, "sent": [SCHEDULED]}, (Write.RELEASE, BARE["id"])),
        (sub(schedule=BARE), {"failed": True}, DONE),  # not of this operation
        (sub(schedule=THEIRS), {"failed": True, "sent": [SCHEDULED]}, DONE),
        (sub(), {"failed": True, "sent": [SCHEDULED]}, DONE),
    ],
)
def test_switch_goes_from_a_schedule_to_its_phases(shown: Governed | None, more: dict[str, Any], answer: Any) -> None:
    """SUB-34, SUB-82, SUB-83"""
    assert brief(asked(Kind.SWITCH, shown, **more)) == answer


MONTHLY = {"id": "price_addon", "recurring": {"interval": "month", "interval_count": 1}}
SIX_MONTHS = {"id": "price_addon", "recurring": {"interval": "month", "interval_count": 6}}


@pytest.mark.parametrize(
    ("prices", "mode", "can"),
    [
        ([STANDARD], "flexible", True),
        ([STANDARD, MONTHLY], "flexible", True),
        ([MONTHLY, STANDARD], "flexible", True),
        ([STANDARD, MONTHLY], "classic", False),  # all items are billed equally often
        ([STANDARD, SIX_MONTHS], "classic", True),
        ([MONTHLY], "flexible", False),
        ([STANDARD, COMMIT], "flexible", False),
        ([STANDARD, "price_of_2024"], "flexible", False),  # the same plan twice
        (["price_of_2024"], "flexible", True),
    ],
)
def test_switch_exchanges_the_one_item_that_is_the_plan(prices: list[Any], mode: str, can: bool) -> None:
    """SUB-34, SUB-82"""
    items = [
        {"id": f"si_{number}", "price": price if isinstance(price, dict) else {"id": price}, "quantity": 1}
        | {"current_period_start": START, "current_period_end": END}
        for number, price in enumerate(prices)
    ]
    old = CATALOG.plans["standard"].model_copy(update={"former_prices": ("price_of_2024",)})
    catalog = CATALOG.model_copy(update={"plans": {**CATALOG.plans, "standard": old}})
    shown = sub(items={"data": items}, billing_mode={"type": mode})
    step = asked(Kind.SWITCH, shown, catalog=catalog)
    assert brief(step) == ((Write.SCHEDULE, "sub_1") if can else "not_switchable")


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        (None, "no_subscription"),
        (sub(), DONE),
        (sub(schedule=BARE), DONE),
        (sub(schedule=OURS), (Write.RELEASE, OURS["id"])),
        (sub(schedule={**OURS, "status": "released"}), DONE),
        (sub(schedule=RUNS, price=COMMIT), DONE),  # there is nothing to take back
        (sub(schedule=THEIRS), "managed_elsewhere"),
        (sub(schedule=GIFT), DONE),  # no other plan comes
    ],
)
def test_taking_a_switch_back_releases_ours_alone(shown: Governed | None, answer: Any) -> None:
    """SUB-35, SUB-83"""
    assert brief(asked(Kind.UNDO_SWITCH, shown)) == answer
