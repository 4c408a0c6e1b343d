"""Erasing a user: what goes, what stays, and who is not erased; over the sandbox, on both databases."""

import pytest

from billing.customers.customers import claim_customer
from billing.errors import UserErased
from billing.models import events, outbox
from billing.operations.calls import Kind
from billing.operators.erase import NotErasable
from billing.operators.erasure_store import Holdings
from billing.operators.listing import Wanted
from billing.operators.lookup import customer_problem, list_incidents
from billing.subscriptions import product_trial
from tests.support.builders import build_event
from tests.support.checkout_world import ORIGIN
from tests.support.erase_world import CANARY, Hooked

# --- what goes


def test_everything_personal_is_gone_and_ids_stay(shop):
    """SUB-50: and nothing of another user's."""
    customer = shop.ended("user_1")
    shop.ended("user_2")
    assert shop.dump().count(f"{CANARY}-user_1") > 5
    before = shop.dump().count(f"{CANARY}-user_2")
    counted = shop.holdings().holdings

    removed = shop.erase()

    assert f"{CANARY}-user_1" not in shop.dump()
    assert shop.dump().count(f"{CANARY}-user_2") == before
    assert removed == counted
    assert all(counted.as_dict().values()), "every kind was there"
    row = shop.row()
    assert (row.customer_id, row.erasure_reason) == (customer, "asked for by letter")
    assert row.erasure_finished_at == shop.clock.now()
    assert shop.erase() == Holdings(), "once more changes nothing"
    assert shop.holdings().holdings == Holdings()


def test_what_was_not_sent_yet_is_not_sent(shop):
    """SUB-50: messages that wait go with the rest."""
    shop.ended()
    assert {row.status for row in shop.rows(outbox)} == {"pending"}
    shop.erase()
    assert {(row.status, str(row.payload)) for row in shop.rows(outbox)} == {("erased", "{}")}


def test_user_without_any_customer_is_erased_too(shop):
    """SUB-50: somebody who signed up and never bought, of whom Stripe knows nothing."""
    shop.arrive()
    assert shop.erase() == Holdings(emails=1)
    assert CANARY not in shop.dump()
    assert shop.requests() == []
    with pytest.raises(NotErasable, match="no user"):
        shop.erase("user_9")


def test_user_who_only_had_a_product_trial_is_erased_too(shop):
    """SUB-50, SUB-55: they have no row of a customer; a look changes nothing, and erasing leaves the tombstone."""
    now = shop.clock.now()
    with shop.database.write() as connection:
        product_trial.begin(connection, "user_1", shop.catalog.product, days=7, now=now)
    before = shop.dump()
    assert shop.holdings().holdings == Holdings()
    assert shop.dump() == before
    assert shop.erase() == Holdings()
    assert (shop.row().erased_at, shop.row().erasure_finished_at) == (now, now)
    with pytest.raises(UserErased):
        shop.ask_personally()
    with pytest.raises(NotErasable, match="no user"):
        shop.erase("user_2")


# --- what comes late


def test_nothing_that_comes_late_brings_it_back(shop):
    """SUB-51, faults row 77: an event, a dispute that names no customer, reconciling, and a change at Stripe."""
    customer = shop.ended()
    shop.erase()
    messages = len(shop.rows(outbox))
    shop.sandbox.request("POST", f"/v1/customers/{customer}", {"name": CANARY})
    charge = shop.objects("charge")[0]["id"]
    dispute = {"id": "dp_1", "object": "dispute", "charge": charge, "evidence": {"customer_name": CANARY}}
    shop.deliver([build_event("charge.dispute.created", dispute)])
    shop.work_events()
    assert CANARY not in shop.dump()

    shop.reconcile(thorough=True)
    shop.work_events()
    shop.sandbox.give_card(customer)
    shop.sandbox.request(
        "POST",
        "/v1/subscriptions",
        {"customer": customer, "items": [{"price": shop.catalog.plans["standard"].price}], "metadata": {"x": CANARY}},
    )
    shop.told()

    assert len(shop.projection()) == 2, "what Stripe has is still followed"
    assert CANARY not in shop.dump()
    assert len(shop.rows(outbox)) == messages
    assert all(event.payload is None for event in shop.rows(events) if event.customer_id == customer)


def test_customer_of_somebody_erased_who_is_billed_again_is_an_incident(shop):
    """SUB-51, SUB-75: support began a subscription; the operator hears of it, and the application does not."""
    customer = shop.ended()
    shop.erase()
    before = len(shop.rows(outbox))
    price = shop.catalog.plans["standard"].price
    shop.sandbox.give_card(customer)
    made = {"customer": customer, "items": [{"price": price}]}
    again = shop.sandbox.request("POST", "/v1/subscriptions", made).body["id"]
    shop.told()
    [row] = list_incidents(Wanted(5), database=shop.database)
    assert (row["kind"], row["detail"]["subscriptions"]) == ("subscription_unowned", [again])
    assert "was erased" in row["reason"]
    assert len(shop.rows(outbox)) == before
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{again}")
    shop.told()
    assert list_incidents(Wanted(5), database=shop.database) == []


# --- who is not erased


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid", "paused", "trialing"])
def test_who_is_still_billed_is_not_erased_and_told_why(shop, status):
    """SUB-52"""
    shop.arrive()
    shop.subscribe("user_1")
    subscription = shop.objects("subscription")[0]["id"]
    shop.sandbox.force_status(subscription, status)
    before = shop.dump()
    assert shop.holdings().live == [subscription]
    with pytest.raises(NotErasable, match=f"{subscription}.*Cancel it first"):
        shop.erase()
    assert shop.dump() == before
    assert shop.ended("user_2")
    shop.erase("user_2")


def test_payment_on_its_way_keeps_a_user(shop):
    """SUB-52: a debit that takes days."""
    checkout = shop.served()
    shop.sandbox.pay(str(checkout.session_id), delayed=True)
    with pytest.raises(NotErasable, match="Cancel it first"):
        shop.erase()
    assert shop.row().erased_at is None


@pytest.mark.parametrize("ours", [True, False])
def test_who_will_be_billed_is_not_erased_before_that_is_released(shop, ours):
    """SUB-52: finance planned a subscription; another product's is in the way of deleting the customer only."""
    customer = shop.ended()
    month = {"object": "price", "id": "price_mug", "unit_amount": 500, "currency": "usd"}
    shop.sandbox.seed([month | {"recurring": {"interval": "month"}}])
    price = shop.catalog.plans["standard"].price if ours else "price_mug"
    later = {"customer": customer, "start_date": int(shop.clock.now().timestamp()) + 86400}
    planned = shop.sandbox.request(
        "POST", "/v1/subscription_schedules", later | {"phases": [{"items": [{"price": price}]}]}
    )
    before = shop.dump()
    with pytest.raises(NotErasable, match=planned.body["id"]):
        shop.erase(delete_at_stripe=not ours)
    assert shop.dump() == before
    if ours:
        shop.sandbox.request("POST", f"/v1/subscription_schedules/{planned.body['id']}/cancel")
    shop.erase()
    assert CANARY not in shop.dump()


def test_open_page_is_expired_first(shop):
    """SUB-53"""
    checkout = shop.served()
    shop.erase()
    assert [one["status"] for one in shop.sessions()] == ["expired"]
    assert shop.view(checkout.id).url is None


def test_page_that_was_paid_in_the_last_moment_keeps_its_user(shop):
    """SUB-53, and then they go on as before."""
    shop.arrive()
    checkout_id = shop.ask_personally()
    shop.work()
    session = str(shop.view(checkout_id).session_id)
    paying = Hooked(shop.stripe, "expire_session", lambda: shop.sandbox.pay(session))
    with pytest.raises(NotErasable, match="sub_"):
        shop.erase(stripe=paying)
    assert shop.row().erased_at is None
    assert CANARY in shop.dump()
    assert shop.served("commit").error["code"] == "already_subscribed"


@pytest.mark.parametrize("delayed", [False, True])
def test_subscription_that_no_list_shows_yet_keeps_its_user(shop, delayed):
    """SUB-53, LAN-11: the page was paid a moment ago, and the ledger's own record of it leads to what it made."""
    checkout = shop.served()
    shop.sandbox.pay(str(checkout.session_id), delayed=delayed)
    shop.sandbox.faults.add("stale_list", method="GET", path="/v1/", seconds=3600, times=None)
    with pytest.raises(NotErasable, match="sub_"):
        shop.erase()
    assert shop.row().erased_at is None


# --- who comes afterwards, or meanwhile


def test_requests_for_somebody_erased_are_refused_and_leave_nothing(shop):
    """SUB-55"""
    shop.ended()
    shop.erase()
    before = shop.dump()
    with pytest.raises(UserErased):
        shop.ask_personally()
    with pytest.raises(UserErased):
        shop.change_personally(Kind.PORTAL, return_url=f"{ORIGIN}/")
    with pytest.raises(UserErased):
        claim_customer("user_1", "cus_other", database=shop.database, clock=shop.clock)
    assert customer_problem("user_1", "cus_other", database=shop.database) == "this user was erased"
    assert shop.dump() == before


# --- at Stripe


def test_customer_at_stripe_goes_only_when_asked_for(shop):
    """SUB-56"""
    customer = shop.ended()
    shop.erase()
    assert "deleted" not in shop.sandbox.request("GET", f"/v1/customers/{customer}").body
    shop.erase(delete_at_stripe=True)
    assert shop.sandbox.request("GET", f"/v1/customers/{customer}").body["deleted"] is True
    shop.erase(delete_at_stripe=True)
    shop.told()
    assert CANARY not in shop.dump()


def test_customer_with_a_subscription_to_another_product_is_not_deleted(shop):
    """SUB-56: erased here, yes."""
    shop.subscribe_elsewhere(shop.ended())
    assert (len(shop.holdings(delete_at_stripe=True).live), len(shop.holdings().live)) == (1, 0)
    with pytest.raises(NotErasable):
        shop.erase(delete_at_stripe=True)
    assert shop.row().erased_at is None
    shop.erase()
    assert CANARY not in shop.dump()
