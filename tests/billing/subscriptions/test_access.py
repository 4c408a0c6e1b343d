"""The catalog's say in access: arrears, disputes, refunds, trials of the product."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.catalog import AccessRules, parse_catalog
from billing.clock import iso
from billing.customers import store as customers_store
from billing.customers.customers import claim_customer
from billing.errors import ConfigurationError
from billing.models import CheckoutStatus, outbox, product_trials
from billing.subscriptions.access import Access, decide_access
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.projection import project
from billing.subscriptions.sync import compare_customer
from tests.support.builders import CATALOG, NOON, build_subscription

# --- statuses


@pytest.mark.parametrize(
    ("status", "rules", "access"),
    [
        ("past_due", {"past_due_grace_days": 3}, Access(True, "past_due_grace", NOON + timedelta(days=3))),
        ("past_due", {"past_due_grace_days": 0}, Access(False, "past_due")),
        ("unpaid", {"unpaid": "grant"}, Access(True, "unpaid")),
        ("paused", {"paused": "grant"}, Access(True, "paused")),
        ("paused", {"unpaid": "grant"}, Access(False, "paused")),
        ("incomplete", {"unpaid": "grant", "paused": "grant"}, Access(False, "incomplete")),
    ],
)
def test_catalog_decides_about_arrears(status, rules, access):
    """SUB-11, SUB-12"""
    built = build_subscription(status=status)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert decide_access([row], NOON, AccessRules(**rules)) == access


def test_catalog_is_checked_and_shipped_with_the_defaults():
    assert CATALOG.access == AccessRules()
    raw = {"product": {"key": "p"}, "plans": {"a": {"name": "A", "price": "price_a", "interval": "month"}}}
    for wrong in ({"unpaid": "maybe"}, {"past_due_grace_days": -1}, {"grace": 3}):
        with pytest.raises(ConfigurationError, match="access"):
            parse_catalog({**raw, "access": wrong})


def test_recovery_brings_access_back(shop):
    """SUB-61: a renewal fails, the grace is over, and then it is paid."""
    shop.rule(past_due_grace_days=1)
    shop.subscribe("user_1")
    subscription = shop.objects("subscription")[0]["id"]
    shop.sandbox.force_status(subscription, "past_due")
    shop.told()
    assert shop.reason() == (True, "past_due_grace")
    shop.clock.advance(days=1)
    assert shop.reason() == (False, "past_due")
    shop.sandbox.force_status(subscription, "active")
    shop.told()
    assert shop.reason() == (True, "active")


# --- money


@pytest.mark.parametrize("rule", ["grant", "deny"])
def test_full_refund_is_shown_and_denies_only_where_the_catalog_says_so(shop, rule):
    """SUB-60: a part of it is nothing; the application hears of it."""
    shop.rule(refunded=rule)
    shop.subscribe("user_1")
    charge = shop.objects("charge")[0]["id"]
    shop.sandbox.request("POST", "/v1/refunds", {"charge": charge, "amount": 100})
    shop.told()
    assert shop.read()["subscription"]["refunded"] is False
    shop.sandbox.request("POST", "/v1/refunds", {"charge": charge})
    shop.told()
    assert shop.read()["subscription"]["refunded"] is True
    assert shop.reason() == ((True, "active") if rule == "grant" else (False, "refunded"))
    available = shop.rows(outbox)[-1]
    assert (available.kind, available.payload["subscription"]["refunded"]) == ("subscription.updated", True)
    assert available.payload["access"]["granted"] is (rule == "grant")


@pytest.mark.parametrize(
    ("status", "disputed"),
    [("needs_response", True), ("under_review", True), ("lost", True), ("won", False), ("warning_under_review", False)],
)
def test_dispute_counts_by_what_stripe_says_of_it(shop, status, disputed):
    """SUB-60: never by the event, which says the same of a dispute that was won."""
    shop.rule(disputed="deny")
    shop.subscribe("user_1")
    shop.sandbox.dispute(shop.objects("charge")[0]["id"], status)
    shop.told()
    assert shop.read()["subscription"]["disputed"] is disputed
    assert shop.reason() == ((False, "disputed") if disputed else (True, "active"))


def test_access_comes_back_when_the_dispute_is_won(shop):
    """SUB-61"""
    shop.rule(disputed="deny")
    customer = shop.subscribe("user_1")
    charge = shop.objects("charge")[0]["id"]
    shop.sandbox.dispute(charge)
    shop.told()
    assert shop.reason() == (False, "disputed")
    shop.sandbox.dispute(charge, "won")
    shop.sync(customer)  # whatever event it is that has us look
    assert shop.reason() == (True, "active")


def test_access_comes_back_with_the_next_period_that_is_paid(shop):
    """SUB-61"""
    shop.rule(refunded="deny")
    customer = shop.subscribe("user_1")
    shop.sandbox.request("POST", "/v1/refunds", {"charge": shop.objects("charge")[0]["id"]})
    shop.told()
    assert shop.reason() == (False, "refunded")
    shop.renew()
    shop.sync(customer)
    assert shop.reason() == (True, "active")


def test_renewal_that_is_not_paid_yet_brings_no_access_back(shop):
    """SUB-61: Stripe names its invoice as the latest before anybody has paid it."""
    shop.rule(disputed="deny")
    customer = shop.subscribe("user_1")
    subscription = shop.objects("subscription")[0]["id"]
    shop.sandbox.dispute(shop.objects("charge")[0]["id"], "lost")
    shop.told()
    shop.sandbox.force_status(subscription, "past_due")
    assert shop.objects("invoice")[0]["status"] == "open"
    shop.told()
    shop.sync(customer)
    assert shop.read()["subscription"]["disputed"] is True
    assert shop.reason() == (False, "disputed")
    shop.sandbox.force_status(subscription, "active")
    shop.told()
    assert shop.reason() == (True, "active")


def test_reconciling_finds_a_dispute_of_which_no_event_came(shop):
    """SUB-62: and does not ask where nothing depends on it."""
    customer = shop.subscribe("user_1")
    shop.told()
    shop.sandbox.dispute(shop.objects("charge")[0]["id"])
    asked = len(shop.requests("GET", "/v1/disputes"))
    rest = {"database": shop.database, "stripe": shop.stripe, "clock": shop.clock}
    assert not compare_customer(customer, SyncContext(catalog=shop.catalog, queue=shop.queue, **rest))
    assert len(shop.requests("GET", "/v1/disputes")) == asked
    shop.rule(disputed="deny")
    assert [
        change.kind
        for change in compare_customer(customer, SyncContext(catalog=shop.catalog, queue=shop.queue, **rest))
    ] == ["subscription.updated"]
    shop.queue.sent.clear()
    shop.deliver(shop.made())
    with shop.database.write() as connection:  # as if it had come to nothing
        connection.execute(sa.text("UPDATE events SET status = 'done'"))
    shop.reconcile(thorough=True)
    assert shop.reason() == (False, "disputed")


# --- trials of the product


def test_first_look_begins_the_one_trial(shop):
    """SUB-63, SUB-65"""
    assert shop.reason() == (False, "no_subscription")
    shop.rule(product_trial_days=7)
    ends = iso(shop.clock.now() + timedelta(days=7))
    assert shop.read()["access"] == {"granted": True, "reason": "product_trial", "until": ends}
    shop.clock.advance(days=6)
    assert shop.read()["access"]["until"] == ends
    shop.clock.advance(days=1)
    assert shop.reason() == (False, "no_subscription")
    assert shop.read()["product_trial"]["ends_at"] == ends, "a frontend can say that it is over"
    assert len(shop.rows(product_trials)) == 1


def test_of_many_first_looks_one_begins_it(shop):
    """SUB-63"""
    shop.rule(product_trial_days=7)
    with ThreadPoolExecutor(8) as looks:
        seen = list(looks.map(lambda _: shop.read()["access"]["until"], range(16)))
    assert len(set(seen)) == 1
    assert len(shop.rows(product_trials)) == 1


def test_buyer_on_trial_may_buy_and_is_a_subscriber_then(shop):
    """SUB-65: a payment that is not settled takes nothing away, and after a subscription no trial goes on."""
    shop.rule(product_trial_days=7)
    assert shop.reason() == (True, "product_trial")
    checkout = shop.served()
    assert checkout.status is CheckoutStatus.OPEN
    shop.told()
    assert shop.reason() == (True, "product_trial"), "an open page is no subscription"
    shop.sandbox.pay(str(checkout.session_id))
    shop.told()
    subscription = shop.objects("subscription")[0]["id"]
    assert shop.reason() == (True, "active")
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}")
    shop.told()
    assert shop.reason() == (False, "canceled")


def test_erasing_ends_the_trial(shop):
    """SUB-65"""
    shop.rule(product_trial_days=7)
    with shop.database.write() as connection:
        customers_store.open_customer(connection, user_id="user_1", email=None, now=shop.clock.now())
    assert shop.reason() == (True, "product_trial")
    with shop.database.write() as connection:
        connection.execute(sa.text("UPDATE customers SET erased_at = created_at"))
    nothing = {"granted": False, "reason": "no_subscription", "until": None}
    assert shop.read() == {"access": nothing, "subscription": None, "product_trial": None}


def test_who_has_had_a_subscription_gets_no_trial(shop):
    """SUB-64: also when Stripe knows nothing of it any more."""
    shop.subscribe("user_1")
    shop.told()
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{shop.objects('subscription')[0]['id']}")
    shop.told()
    shop.rule(product_trial_days=7)
    assert shop.reason() == (False, "canceled")
    with shop.database.write() as connection:
        connection.execute(sa.text("DELETE FROM subscriptions"))
    assert shop.read()["access"] == {"granted": False, "reason": "no_subscription", "until": None}
    assert shop.rows(product_trials) == []


def test_who_is_not_known_well_enough_gets_no_trial_yet(shop):
    """SUB-64: an imported customer, until Stripe was asked; somebody erased, never."""
    shop.rule(product_trial_days=7)
    customer = shop.sandbox.request("POST", "/v1/customers", {}).body["id"]
    claim_customer("user_1", customer, database=shop.database, clock=shop.clock)
    assert shop.reason() == (False, "no_subscription")
    shop.sync(customer)
    assert shop.reason() == (True, "product_trial")
    with shop.database.write() as connection:
        customers_store.open_customer(connection, user_id="user_2", email=None, now=shop.clock.now())
        connection.execute(sa.text("UPDATE customers SET erased_at = created_at WHERE user_id = 'user_2'"))
    assert shop.reason("user_2") == (False, "no_subscription")
