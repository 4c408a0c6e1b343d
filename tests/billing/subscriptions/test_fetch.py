"""What one fetch makes of Stripe's answers, as tables. In memory."""

from typing import Any

import pytest

from billing.errors import StripeRefused
from billing.models import AttemptOutcome
from billing.subscriptions.fetch import fetch, or_none
from tests.support.builders import build_subscription
from tests.support.fakes import FakeStripe

CUSTOMER = {"id": "cus_1", "object": "customer"}
ANOTHER = {"id": "cus_2", "object": "customer"}
LIVE, OVER = build_subscription("sub_1"), build_subscription("sub_2", status="canceled")
PAID = {"id": "cs_1", "object": "checkout.session", "status": "complete", "subscription": "sub_1"}


def stripe(*objects: dict[str, Any], unlisted: tuple[str, ...] = ()) -> Any:
    """A Stripe with these, some of which lists do not show yet."""
    fake = FakeStripe()
    fake.put(*objects)
    fake.unlisted |= set(unlisted)
    return fake


@pytest.mark.parametrize(
    ("objects", "with_customer", "deleted"),
    [
        ([CUSTOMER], True, False),
        ([CUSTOMER], False, None),  # nobody asked
        ([{**CUSTOMER, "deleted": True}], True, True),
        ([], True, True),
        ([], False, True),  # the list's filter says so
    ],
)
def test_customer_is_deleted_where_stripe_says_so(
    objects: list[Any], with_customer: bool, deleted: bool | None
) -> None:
    """SUB-5: and then no subscription is looked for by its id."""
    known = stripe(*objects, LIVE, unlisted=("sub_1",))
    found = fetch("cus_1", stripe=known, with_customer=with_customer, sessions=[], expected=["sub_1"])
    assert found.deleted is deleted
    assert [one["id"] for one in found.subscriptions] == ([] if deleted else ["sub_1"])


@pytest.mark.parametrize(
    ("sessions", "expected", "found"),
    [
        ([], [], ["sub_2"]),
        ([], ["sub_1"], ["sub_2", "sub_1"]),
        (["cs_1"], [], ["sub_2", "sub_1"]),  # a paid session made it
        (["cs_1"], ["sub_1", "sub_2"], ["sub_2", "sub_1"]),  # each once
        ([], ["sub_3"], ["sub_2"]),  # another customer's
        ([], ["sub_9"], ["sub_2"]),  # which Stripe does not have
        (["cs_2", "cs_9"], [], ["sub_2"]),
    ],
)
def test_subscription_that_the_list_lacks_is_read_by_its_id(
    sessions: list[str], expected: list[str], found: list[str]
) -> None:
    """SUB-22"""
    others = build_subscription("sub_3", customer="cus_2")
    page = {"id": "cs_2", "object": "checkout.session", "status": "open", "subscription": None}
    known = stripe(CUSTOMER, ANOTHER, LIVE, OVER, others, PAID, page, unlisted=("sub_1", "sub_3"))
    fetched = fetch("cus_1", stripe=known, with_customer=True, sessions=sessions, expected=expected)
    assert [one["id"] for one in fetched.subscriptions] == found


def test_outcomes_are_those_of_the_sessions_that_are_over() -> None:
    """SUB-6"""
    pages = [{"id": f"cs_{status}", "object": "checkout.session", "status": status} for status in ("expired", "open")]
    wanted = ["cs_expired", "cs_open", "cs_1", "cs_9"]
    fetched = fetch(
        "cus_1", stripe=stripe(CUSTOMER, LIVE, PAID, *pages), with_customer=True, sessions=wanted, expected=[]
    )
    assert fetched.sessions == {"cs_expired": AttemptOutcome.EXPIRED, "cs_1": AttemptOutcome.COMPLETED}


def test_schedules_are_read_of_what_is_live() -> None:
    """SUB-3: each by its id; one that Stripe does not have is none."""
    planned = [{"id": f"sub_sched_{number}", "object": "subscription_schedule"} for number in (1, 2)]
    subscriptions = [
        build_subscription("sub_1", schedule="sub_sched_1"),
        build_subscription("sub_2", schedule="sub_sched_2", status="canceled"),
        build_subscription("sub_3", schedule={"id": "sub_sched_9"}),
        build_subscription("sub_4"),
    ]
    known = stripe(CUSTOMER, *subscriptions, *planned)
    fetched = fetch("cus_1", stripe=known, with_customer=False, sessions=[], expected=[])
    assert fetched.schedules == {"sub_sched_1": planned[0]}
    assert known.calls["get_schedule"] == 2


@pytest.mark.parametrize(
    ("status", "code", "none"),
    [
        (404, "resource_missing", True),
        (400, "resource_missing", True),
        (400, "parameter_invalid", False),
        (400, None, False),
    ],
)
def test_what_stripe_does_not_have_is_no_error_and_any_other_refusal_is(
    status: int, code: str | None, none: bool
) -> None:
    """SUB-5"""

    def call(_id: str) -> Any:
        raise StripeRefused("no", status=status, stripe_code=code, param=None)

    if none:
        assert or_none(call, "cus_1") is None
    else:
        with pytest.raises(StripeRefused):
            or_none(call, "cus_1")
