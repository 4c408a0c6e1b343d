"""The catalog's say in access: arrears, disputes, refunds, trials of the product, commitments."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from billing.catalog import AccessRules, parse_catalog
from billing.clock import add_months, iso
from billing.customers import store as customers_store
from billing.customers.customers import claim_customer
from billing.errors import ConfigurationError
from billing.models import CheckoutStatus, outbox, product_trials
from billing.subscriptions.access import Access, decide_access
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.fetch import fetch
from billing.subscriptions.projection import project
from billing.subscriptions.sync import compare_customer, sync_customer
from tests.support.builders import CATALOG, NOON, build_subscription, stamp
from tests.support.fakes import FakeStripe
from tests.support.reconcile_world import Shop as Delivered


class Shop(Delivered):
    """A shop whose catalog has rules of its own."""

    def rule(self, **rules: object) -> None:
        """From now on."""
        self.catalog = self.catalog.model_copy(update={"access": AccessRules(**rules)})

    def reason(self, user: str = "user_1") -> tuple[bool, str]:
        """Whether, and why."""
        access = self.read(user)["access"]
        return access["granted"], access["reason"]

    def sync(self, customer: str) -> None:
        """Without any event."""
        rest = {"database": self.database, "stripe": self.stripe, "clock": self.clock, "catalog": self.catalog}
        sync_customer(customer, SyncContext(queue=self.queue, **rest))

    def renew(self) -> None:
        """Go on to the next period, which is paid."""
        item = self.objects("subscription")[0]["items"]["data"][0]
        self.clock.advance(seconds=item["current_period_end"] - self.clock.now().timestamp() + 60)
        self.sandbox.tick()


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)


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


# --- Stripe's test clocks


def put_on_a_clock(shop, customer, *, at):
    """The customer lives on a test clock from here on; its id."""
    made = shop.sandbox.request("POST", "/v1/test_helpers/test_clocks", {"frozen_time": at, "customer": customer})
    assert made.status == 200, made.body
    return made.body["id"]


def set_clock(shop, clock, *, at):
    """The clock is there, and what happened on the way is worked."""
    path = f"/v1/test_helpers/test_clocks/{clock}"
    assert shop.sandbox.request("POST", f"{path}/advance", {"frozen_time": at}).status == 200
    assert shop.sandbox.request("GET", path).body["status"] == "ready"
    shop.told()


def test_on_a_test_clock_grace_runs_out_by_its_time(shop):
    """SUB-119: which has gone on by months, while ours stands still. Another customer's has not."""
    shop.rule(past_due_grace_days=5)
    customer = shop.subscribe("user_1")
    shop.subscribe("user_2")
    renewal = shop.objects("subscription")[1]["items"]["data"][0]["current_period_end"]
    clock = put_on_a_clock(shop, customer, at=renewal - 60)
    [card] = [one for one in shop.objects("payment_method") if one["customer"] == customer]
    shop.sandbox.card_answers(card["id"], "do_not_honor")
    set_clock(shop, clock, at=renewal + 4 * 86400)
    assert shop.reason() == (True, "past_due_grace")
    set_clock(shop, clock, at=renewal + 10 * 86400)
    assert shop.reason() == (False, "past_due")
    assert shop.reason("user_2") == (True, "active")
    told = [row.payload["subscription"]["status"] for row in shop.rows(outbox) if row.customer_id == customer]
    assert told == ["past_due"]  # that time passes is no change


def test_on_a_test_clock_in_the_past_a_planned_end_is_still_to_come(shop):
    """SUB-119: the customer was taken over, as one that was made for the clock."""
    then = 1_577_836_800  # 2020
    clock = shop.sandbox.request("POST", "/v1/test_helpers/test_clocks", {"frozen_time": then}).body["id"]
    asked = {"test_clock": clock, "payment_method": "pm_card_visa"}
    customer = shop.sandbox.request("POST", "/v1/customers", asked).body["id"]
    shop.sandbox.give_card(customer)
    claim_customer("user_1", customer, database=shop.database, clock=shop.clock)
    items = [{"price": shop.catalog.plans["standard"].price}]
    made = {"customer": customer, "items": items, "cancel_at_period_end": True}
    assert shop.sandbox.request("POST", "/v1/subscriptions", made).status == 200
    shop.told()
    assert shop.reason() == (True, "active")
    set_clock(shop, clock, at=then + 40 * 86400)
    assert shop.reason() == (False, "canceled")


@pytest.mark.parametrize(("answer", "granted"), [("unreadable", False), ("gone", False), ("ready", True)])
def test_a_clock_that_cannot_be_read_leaves_the_real_time(shop, answer, granted):
    """SUB-119: by a restricted key, or of a clock that is gone; nothing fails."""
    customer = shop.subscribe("user_1")
    subscription = shop.objects("subscription")[0]
    shop.clock.advance(days=5)
    clock = put_on_a_clock(shop, customer, at=int(shop.clock.now().timestamp()) + 60)
    ends = subscription["items"]["data"][0]["current_period_end"]
    shop.sandbox.change_subscription(subscription["id"], {"cancel_at_period_end": True})
    shop.clock.advance(seconds=ends - shop.clock.now().timestamp() + 60)  # ours is past the end, the clock's is not
    if answer != "ready":
        status = {"unreadable": 403, "gone": 404}[answer]
        code = {"code": "resource_missing"} if answer == "gone" else {}
        shop.sandbox.faults.add("status", path=f"/v1/test_helpers/test_clocks/{clock}", status=status, **code)
    shop.sync(customer)
    assert shop.reason()[0] is granted


def test_a_clock_on_its_way_counts_as_where_it_goes():
    """SUB-119: once it is there, no event of the customer need follow."""
    stripe = FakeStripe()
    details = {"advancing": {"target_frozen_time": stamp(NOON) + 60}}
    clock = {"object": "test_helpers.test_clock", "frozen_time": stamp(NOON), "status_details": details}
    stripe.put({"id": "cus_1", "object": "customer"}, {"id": "clock_1", **clock})
    stripe.put({**build_subscription(), "customer": "cus_1", "test_clock": "clock_1"})
    found = fetch("cus_1", stripe=stripe, with_customer=False, sessions=(), expected=())
    assert found.clocks == {"clock_1": NOON + timedelta(seconds=60)}


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


# --- commitments


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ((2027, 1, 31), 1, (2027, 2, 28)),
        ((2028, 1, 31), 1, (2028, 2, 29)),
        ((2026, 8, 31), 6, (2027, 2, 28)),
        ((2026, 12, 15), 1, (2027, 1, 15)),
        ((2026, 11, 30), 36, (2029, 11, 30)),
    ],
)
def test_months_are_the_calendars(start, months, end):
    """SUB-67"""
    assert add_months(datetime(*start, 9, tzinfo=UTC), months) == datetime(*end, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "period_start", "end"),
    [
        ((2026, 8, 31), (2026, 8, 3), (2027, 2, 28)),  # billing starts later
        ((2026, 8, 31), (2026, 8, 31), (2027, 2, 28)),
        ((2026, 8, 31), (2027, 2, 28), (2027, 8, 31)),  # not the 28th: the anchor counts
        ((2026, 8, 31), (2027, 8, 31), (2028, 2, 29)),
        ((2026, 8, 31), (2026, 10, 2), (2027, 2, 28)),  # seen late, within the term
    ],
)
def test_commitment_ends_whole_terms_after_the_anchor(anchor, period_start, end):
    """SUB-67: extended on renewal."""
    moment = {name: stamp(datetime(*day, 9, tzinfo=UTC)) for name, day in (("a", anchor), ("p", period_start))}
    built = build_subscription(
        price="price_kiloclaw_commit", item={"current_period_start": moment["p"]}, billing_cycle_anchor=moment["a"]
    )
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert row.commitment_ends_at == datetime(*end, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "period_start", "trial_end", "end"),
    [
        ("active", (2027, 2, 28), (2026, 8, 31), (2027, 8, 31)),  # renewed, and the trial is long over
        ("trialing", (2026, 8, 3), (2026, 8, 31), (2027, 2, 28)),
        ("canceled", (2027, 2, 28), (2026, 8, 31), None),
    ],
)
def test_commitment_after_a_trial_is_by_what_is_paid_for(status, period_start, trial_end, end):
    """SUB-67: and nobody is bound by what is over."""
    start, august = (stamp(datetime(*day, 9, tzinfo=UTC)) for day in (period_start, trial_end))
    built = build_subscription(
        status=status,
        price="price_kiloclaw_commit",
        item={"current_period_start": start},
        billing_cycle_anchor=august,
        trial_end=august,
    )
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert row.commitment_ends_at == (end and datetime(*end, 9, tzinfo=UTC))


def test_commitment_is_the_plans_own_period_where_another_item_set_the_anchor():
    """SUB-67, SUB-80: a yearly add-on since January, the plan since March."""
    january, march, september = (stamp(datetime(2026, month, 15, tzinfo=UTC)) for month in (1, 3, 9))
    item = {"current_period_start": march, "current_period_end": september}
    built = build_subscription(price="price_kiloclaw_commit", item=item, billing_cycle_anchor=january)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert row.commitment_ends_at == row.current_period_end == datetime(2026, 9, 15, tzinfo=UTC)


def test_commitment_is_shown_and_extended_when_it_renews(shop):
    """SUB-67: and is the end of Stripe's period. On another plan there is none."""
    checkout = shop.served("commit")
    shop.sandbox.pay(str(checkout.session_id))
    customer = shop.objects("subscription")[0]["customer"]
    shop.sync(customer)
    first = shop.read()["subscription"]
    assert first["commitment_ends_at"] == first["current_period_end"]
    assert first["commitment_ends_at"] == iso(add_months(shop.clock.now(), 6))
    shop.renew()
    shop.sync(customer)
    second = shop.read()["subscription"]
    assert second["commitment_ends_at"] == second["current_period_end"] > first["commitment_ends_at"]
    other = shop.subscribe("user_2")
    shop.sync(other)
    assert shop.read("user_2")["subscription"]["commitment_ends_at"] is None


def test_trial_binds_nobody(shop):
    """SUB-67: the term begins when the trial ends."""
    ends = stamp(shop.clock.now() + timedelta(days=10))
    plan = shop.catalog.plans["commit"].model_copy(update={"trial_end": ends})
    shop.catalog = shop.catalog.model_copy(update={"plans": {**shop.catalog.plans, "commit": plan}})
    checkout = shop.served("commit")
    shop.sandbox.pay(str(checkout.session_id))
    shop.sync(shop.objects("subscription")[0]["customer"])
    shown = shop.read()["subscription"]
    assert shown["status"] == "trialing"
    assert shown["commitment_ends_at"] == iso(add_months(datetime.fromtimestamp(ends, UTC), 6))


def test_commitment_longer_than_a_period_is_refused():
    """SUB-66: nobody would keep the buyer to it."""
    plan = {"name": "A", "price": "price_a", "interval": "month", "commitment_months": 6}
    with pytest.raises(ConfigurationError, match="one period"):
        parse_catalog({"product": {"key": "p"}, "plans": {"a": plan}})
    yearly = {**plan, "interval": "year", "commitment_months": 12}
    assert parse_catalog({"product": {"key": "p"}, "plans": {"a": yearly}}).plans["a"].commitment_months == 12
