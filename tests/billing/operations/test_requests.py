"""Operations as they are asked for: what is refused at once, keys, several of one buyer, and the portal's address."""

import pytest
import sqlalchemy as sa

from billing.errors import IdempotencyMismatch, InvalidRequest, NoSubscription, NotFound
from billing.models import OperationStatus, customers, operations
from billing.operations.calls import Kind
from tests.support.checkout_world import ORIGIN
from tests.support.operations_world import RETURN, Shop


def test_portal_address_is_for_its_buyer_and_for_minutes(shop: Shop) -> None:
    """SUB-38: it is forgotten by the ledger, too."""
    shop.subscriber()
    recorded = shop.change(Kind.PORTAL, **RETURN)
    shop.work()
    view = shop.look(recorded.operation_id)
    assert view.status is OperationStatus.SUCCEEDED
    assert "/portal/" in str(view.url)
    shop.clock.advance(minutes=5)
    assert shop.look(recorded.operation_id).url is None
    shop.sweep(seconds=0)
    with shop.database.read() as connection:
        assert connection.execute(sa.select(operations.c.url)).scalars().all() == [None]
    with pytest.raises(NotFound, match="no such operation"):
        shop.look(recorded.operation_id, "user_2")


@pytest.mark.parametrize(("minutes", "replayed"), [(1, True), (3, False)])
def test_portal_session_whose_answer_was_lost_is_asked_for_again_and_after_minutes_opened_anew(
    shop: Shop, minutes: int, replayed: bool
) -> None:
    """SUB-30, SUB-38: one that was opened minutes ago may have ended."""
    shop.subscriber()
    recorded = shop.change(Kind.PORTAL, **RETURN)
    shop.sandbox.faults.add("drop_after", method="POST", path="/v1/billing_portal")
    shop.work()
    shop.sweep(minutes=minutes)
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED
    assert [one["replayed"] for one in shop.requests("POST", "/v1/billing_portal")] == [False, replayed]


def test_portal_address_is_never_logged(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """SUB-38"""
    shop.subscriber()
    view = shop.done(Kind.PORTAL, **RETURN)
    written = capsys.readouterr()
    assert "operation.finished" in written.out
    assert str(view.url).rpartition("/")[2] not in written.out + written.err


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.REACTIVATE, Kind.UNDO_SWITCH])
def test_nothing_to_change_without_a_subscription(shop: Shop, kind: Kind) -> None:
    """SUB-37: never a customer; a customer who paid nothing; one whose subscription is over."""
    with pytest.raises(NoSubscription):
        shop.change(kind)
    with shop.database.read() as connection:
        assert connection.execute(sa.select(customers)).all() == []
    shop.served()
    assert (shop.done(kind).error or {})["code"] == "no_subscription"
    subscription = shop.subscriber("user_2")
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}")
    assert (shop.done(kind, "user_2").error or {})["code"] == "no_subscription"


def test_customer_who_is_deleted_at_stripe_has_nothing_to_change(shop: Shop) -> None:
    """SUB-37"""
    shop.subscriber()
    [customer] = shop.objects("customer")
    shop.sandbox.request("DELETE", f"/v1/customers/{customer['id']}")
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "no_subscription"
    assert (shop.done(Kind.PORTAL, **RETURN).error or {})["code"] == "no_subscription"


@pytest.mark.parametrize(
    ("kind", "request_", "pointer"),
    [
        (Kind.SWITCH, {"plan": "gold"}, "/plan"),
        (Kind.PORTAL, {"return_url": "https://evil.example"}, "/return_url"),
        (Kind.PORTAL, {"return_url": f"{ORIGIN}@evil.example/"}, "/return_url"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(shop: Shop, kind: Kind, request_: dict[str, str], pointer: str) -> None:
    """SUB-37"""
    shop.served()
    with pytest.raises(InvalidRequest) as refused:
        shop.change(kind, **request_)
    assert refused.value.errors[0]["pointer"] == pointer


def test_same_key_is_the_same_operation_and_other_words_are_refused(shop: Shop) -> None:
    """SUB-37"""
    shop.subscriber()
    first = shop.change(Kind.CANCEL, key="k")
    shop.work()
    again = shop.change(Kind.CANCEL, key="k")
    assert (again.operation_id, again.replayed) == (first.operation_id, True)
    with pytest.raises(IdempotencyMismatch):
        shop.change(Kind.SWITCH, key="k", plan="commit")
    shop.sweep(hours=25)
    assert shop.change(Kind.SWITCH, key="k", plan="commit").replayed is False


def test_second_press_of_a_button_waits_for_the_first_ones_answer(shop: Shop) -> None:
    """SUB-37: what waits and is equal is one operation."""
    shop.subscriber()
    first, second = shop.change(Kind.CANCEL), shop.change(Kind.CANCEL)
    assert first.operation_id == second.operation_id
    assert [(press.is_new, press.replayed) for press in (first, second)] == [(True, False), (False, False)]
    other, third = shop.change(Kind.REACTIVATE), shop.change(Kind.CANCEL)
    assert third.operation_id != first.operation_id
    shop.work()
    assert {shop.look(id_.operation_id).status for id_ in (first, other, third)} == {OperationStatus.SUCCEEDED}
    assert shop.seen()["cancel_at_period_end"] is True, "in the order in which they came"


@pytest.mark.parametrize(("kind", "request_", "kept"), [(Kind.PORTAL, RETURN, {}), (Kind.REACTIVATE, {}, {})])
def test_ended_operation_keeps_what_is_shown_and_no_more(
    shop: Shop, kind: Kind, request_: dict[str, str], kept: dict[str, str]
) -> None:
    """SUB-50: what was sent to Stripe is gone, and so is the trouble on the way, whether it succeeds or fails."""
    shop.subscriber()
    shop.done(Kind.CANCEL)
    shop.sandbox.faults.add("status", status=503, method="POST")
    if kind is Kind.REACTIVATE:
        shop.sandbox.faults.add("status", status=400, method="POST", times=2)
    recorded = shop.change(kind, **request_)
    shop.work()
    assert shop.look(recorded.operation_id).trouble == "stripe_unavailable"
    shop.sweep(minutes=11)
    [row] = [row for row in shop.rows(operations) if row.id == recorded.operation_id]
    assert row.status == ("succeeded" if kind is Kind.PORTAL else "failed")
    assert (row.request, row.call, row.failure, row.last_error) == (kept, None, None, None)
