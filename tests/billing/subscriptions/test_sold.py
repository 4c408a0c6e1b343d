"""What is ours and what gives access: by price, former price and product; by the tag alone nothing is given."""

from typing import Any

import pytest

from billing.catalog import Catalog, parse_catalog
from billing.customers.customers import claim_customer
from billing.errors import ConfigurationError
from billing.models import CheckoutStatus, OperationStatus, incidents
from billing.operations.decide import Kind
from billing.operations.requests import read_operation
from billing.subscriptions.access import Access, decide_access
from billing.subscriptions.projection import belongs, plan_prices, project
from billing.subscriptions.troubles import DUPLICATE, NOT_SOLD, SEVERAL_PLANS, UNOWNED, find_troubles
from tests.support.builders import CATALOG, NOON, build_subscription, stamp
from tests.support.reconcile_world import Shop as Delivered

LAST_YEAR, ELSEWHERE = "price_standard_2025", "price_elsewhere"
RAW: dict[str, Any] = {
    "product": {"key": "kiloclaw"},
    "plans": {
        "standard": {"name": "S", "price": "price_kiloclaw_standard", "interval": "month"},
        "commit": {"name": "C", "price": "price_kiloclaw_commit", "interval": "month", "interval_count": 6},
    },
}


def sold(**of_plans: dict[str, Any]) -> Catalog:
    """A catalog of both plans, with these fields of theirs."""
    plans = {key: {**plan, **of_plans.get(key, {})} for key, plan in RAW["plans"].items()}
    return parse_catalog({**RAW, "plans": plans})


FORMER = sold(standard={"former_prices": [LAST_YEAR]})
BY_PRODUCT = sold(standard={"stripe_product": "prod_1"})
ONE_PRODUCT = sold(standard={"stripe_product": "prod_1"}, commit={"stripe_product": "prod_1"})


def price(id_: str = "price_x", product: Any = "prod_1", interval: str = "month", count: int = 1, **more: str) -> Any:
    """A price as an item has it."""
    return {"id": id_, "product": product, "recurring": {"interval": interval, "interval_count": count, **more}}


@pytest.mark.parametrize(
    ("catalog", "price", "plan"),
    [
        (FORMER, "price_kiloclaw_standard", "standard"),
        (FORMER, LAST_YEAR, "standard"),
        (FORMER, {"id": LAST_YEAR}, "standard"),
        (FORMER, ELSEWHERE, None),
        (FORMER, None, None),
        (FORMER, {"id": ELSEWHERE, "product": None}, None),
        (BY_PRODUCT, price(), "standard"),
        (BY_PRODUCT, price(product={"id": "prod_1"}), "standard"),
        (BY_PRODUCT, price(interval="year"), "standard"),
        (BY_PRODUCT, price(product="prod_2"), None),
        (BY_PRODUCT, price("price_kiloclaw_commit"), "commit"),  # what is named goes first
        (BY_PRODUCT, price(usage_type="metered"), None),
        (BY_PRODUCT, price(usage_type="licensed"), "standard"),
        (BY_PRODUCT, {"id": "price_x", "product": "prod_1"}, "standard"),
        (ONE_PRODUCT, price(), "standard"),
        (ONE_PRODUCT, price(count=6), "commit"),
        (ONE_PRODUCT, price(interval="year"), None),
    ],
)
def test_price_former_price_and_product_name_the_plan(catalog, price, plan):
    """SUB-73"""
    found = catalog.plan_sold_as(price)
    assert (found.key if found else None) == plan
    built = build_subscription(item={"price": price})
    tagged = project(built, customer_id="cus_1", catalog=catalog, schedule=None, before=None, now=NOON)
    granted = Access(True, "active") if plan else Access(False, "not_sold")
    assert (tagged.plan, decide_access([tagged], NOON)) == (plan, granted)
    assert belongs({**built, "metadata": {}}, catalog) is (plan is not None)


@pytest.mark.parametrize("status", ["past_due", "canceled", "unpaid"])
def test_what_denies_already_keeps_its_reason(status):
    """SUB-73"""
    built = build_subscription(status=status, price=ELSEWHERE)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    reason = "not_sold" if status == "past_due" else status
    assert decide_access([row], NOON) == Access(False, reason)


def test_named_price_goes_before_another_of_its_product():
    """SUB-3: an add-on of the same product, and before it in the list."""
    addon = {"price": price("price_addon"), "quantity": 7, "current_period_end": stamp(NOON)}
    plan = {"price": price("price_kiloclaw_standard"), "quantity": 2, "current_period_end": stamp(NOON) + 60}
    built = build_subscription(items={"data": [addon, plan]})
    row = project(built, customer_id="cus_1", catalog=BY_PRODUCT, schedule=None, before=None, now=NOON)
    assert (row.price_id, row.quantity) == ("price_kiloclaw_standard", 2)


@pytest.mark.parametrize(("to", "plan"), [("price_kiloclaw_standard", None), ("price_kiloclaw_commit", "commit")])
def test_new_price_of_the_same_plan_is_no_change_of_plan(to, plan):
    """SUB-76: finance moves last year's buyers to the new price."""
    schedule = {
        "status": "active",
        "current_phase": {"start_date": 1, "end_date": 2},
        "phases": [{"start_date": 1, "items": [{"price": LAST_YEAR}]}, {"start_date": 2, "items": [{"price": to}]}],
    }
    built = build_subscription(price=LAST_YEAR)
    row = project(built, customer_id="cus_1", catalog=FORMER, schedule=schedule, before=None, now=NOON)
    assert (row.plan, row.scheduled_plan) == ("standard", plan)


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        ({"standard": {"former_prices": ["price_kiloclaw_commit"]}}, "same price"),
        ({"standard": {"former_prices": ["price_kiloclaw_standard"]}}, "same price"),
        ({"standard": {"former_prices": [LAST_YEAR]}, "commit": {"former_prices": [LAST_YEAR]}}, "same price"),
        ({"standard": {"former_prices": ["prod_1"]}}, "former_prices"),
        ({"standard": {"former_prices": LAST_YEAR}}, "former_prices"),
        ({"standard": {"stripe_product": "prod 1"}}, "stripe_product"),
        (
            {"standard": {"stripe_product": "p"}, "commit": {"stripe_product": "p", "interval_count": 1}},
            "same interval",
        ),
    ],
)
def test_price_belongs_to_one_plan(plans, words):
    """SUB-73: what could be either is refused at the start."""
    with pytest.raises(ConfigurationError, match=words):
        sold(**plans)


@pytest.mark.parametrize(
    ("id_", "taken"),
    [
        ("price_1", True),
        ("plan_1", True),
        ("gold-monthly", True),
        ("pro.2016@eur", True),
        ("9", True),
        ("gold monthly", False),
        ("gold/monthly", False),
        ("../x", False),
        ("", False),
        ("sub_1", False),
        ("x" * 256, False),
    ],
)
def test_price_may_be_an_older_plan(id_, taken):
    """SUB-73: whose id its maker chose; not an id of something else."""
    if taken:
        assert sold(standard={"former_prices": [id_], "price": f"{id_}-now"}).plan_of_price(id_)
        return
    with pytest.raises(ConfigurationError):
        sold(standard={"former_prices": [id_]})


@pytest.mark.parametrize(
    ("rows", "is_owned", "kinds"),
    [
        ([{}], True, []),
        ([], False, []),
        ([{}], False, [UNOWNED]),
        ([{"status": "canceled"}], False, []),
        ([{"price": ELSEWHERE}], True, [NOT_SOLD]),
        ([{"price": ELSEWHERE, "status": "canceled"}], True, []),
        ([{"price": ELSEWHERE, "metadata": {}}], False, []),
        ([{}, {"price": ELSEWHERE}], False, [DUPLICATE, NOT_SOLD, UNOWNED]),
        ([{}, {"price": ELSEWHERE, "metadata": {}}], True, []),
    ],
    ids=str,
)
def test_what_a_person_has_to_look_at(rows, is_owned, kinds):
    """SUB-8, SUB-74, SUB-75"""
    built = [build_subscription(f"sub_{number}", **dict(row)) for number, row in enumerate(rows)]
    projected = [
        project(one, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON) for one in built
    ]
    found = find_troubles(projected, product="kiloclaw", is_owned=is_owned)
    assert [trouble.kind for trouble in found] == kinds
    assert all(trouble.next_step for trouble in found if trouble.kind != DUPLICATE)
    assert find_troubles(projected, product="another", is_owned=is_owned) == ()


def test_erased_users_subscription_is_an_incident_of_its_own_words():
    """SUB-75: the user's row still has the customer."""
    row = project(build_subscription(), customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    [trouble] = find_troubles([row], product="kiloclaw", is_owned=True, is_erased=True)
    assert (trouble.kind, "was erased" in str(trouble.next_step)) == (UNOWNED, True)


OF_PLAN, COMMIT, ADDON = price("price_kiloclaw_standard"), price("price_kiloclaw_commit"), price("price_addon")


@pytest.mark.parametrize(
    ("prices", "billed"),
    [
        ([OF_PLAN], 1),
        ([OF_PLAN, COMMIT], 2),
        ([OF_PLAN, {"id": LAST_YEAR}], 2),  # the new price was added, and the old one stayed
        ([OF_PLAN, {"id": ELSEWHERE}], 1),
        ([OF_PLAN, ADDON], 1),  # of the plan's product: an add-on
        ([ADDON, price("price_y")], 2),
        ([{"id": ELSEWHERE}, {"id": "price_y"}], 0),
    ],
)
def test_several_prices_of_plans_are_somebodys_mistake(prices, billed):
    """SUB-120"""
    catalog = sold(standard={"stripe_product": "prod_1", "former_prices": [LAST_YEAR]})
    built = build_subscription(items={"data": [{"id": f"si_{one['id']}", "price": one} for one in prices]})
    found = plan_prices(built, catalog)
    assert len(found) == billed
    row = project(built, customer_id="cus_1", catalog=catalog, schedule=None, before=None, now=NOON)
    troubles = find_troubles([row], product="kiloclaw", is_owned=True, plans={"sub_1": found})
    several = [trouble for trouble in troubles if trouble.kind == SEVERAL_PLANS]
    assert [trouble.subscriptions for trouble in several] == ([("sub_1",)] if billed > 1 else [])
    assert all(one in str(trouble.next_step) for trouble in several for one in found)


class Shop(Delivered):
    """A shop that sold its plan at another price last year."""

    def sold_elsewhere(self, price: str, *, customer: str = "cus_1", tagged: bool = False) -> str:
        """A subscription that this customer has from before; its id."""
        self.sandbox.seed([{"object": "customer", "id": customer, "card": "pm_card_visa"}])
        metadata = {"metadata": {"type": self.catalog.product}} if tagged else {}
        made = self.sandbox.request(
            "POST", "/v1/subscriptions", {"customer": customer, "items": [{"price": price}], **metadata}
        )
        assert made.status == 200, made.body
        return str(made.body["id"])

    def take_over(self, user: str = "user_1", customer: str = "cus_1") -> None:
        """The customer is that user's, and fetched."""
        claim_customer(user, customer, database=self.database, clock=self.clock)
        self.sync_taken_over()

    def open_incidents(self) -> dict[str, str | None]:
        """By kind, with what to do."""
        return {row.kind: row.reason for row in self.rows(incidents) if row.resolved_at is None}


@pytest.fixture
def shop(database) -> Shop:
    """The standard plan cost something else last year; its Stripe product has a third price."""
    plan = CATALOG.plans["standard"].model_copy(update={"former_prices": (LAST_YEAR,), "stripe_product": "prod_x"})
    shop = Shop(database, catalog=CATALOG.model_copy(update={"plans": {**CATALOG.plans, "standard": plan}}))
    month = {"recurring": {"interval": "month"}, "currency": "usd", "unit_amount": 700}
    ids = {LAST_YEAR: "prod_old", "price_third": "prod_x", ELSEWHERE: "prod_other"}
    shop.sandbox.seed({"object": "price", "id": id_, "product": product, **month} for id_, product in ids.items())
    return shop


@pytest.mark.parametrize("sold_at", [LAST_YEAR, "price_third"])
def test_buyer_at_last_years_price_has_their_plan_and_is_sold_no_second_one(shop, sold_at):
    """SUB-73, SUB-76, CHK-11"""
    shop.sold_elsewhere(sold_at)
    shop.take_over()
    assert shop.read()["access"] == {"granted": True, "reason": "active", "until": None}
    assert shop.read()["subscription"]["plan"] == "standard"
    assert shop.open_incidents() == {}
    assert shop.served().status is CheckoutStatus.REFUSED
    operation = shop.change(Kind.SWITCH, plan="standard")
    shop.work()
    view = read_operation(operation.operation_id, user_id="user_1", database=shop.database, clock=shop.clock)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "already_on_plan")
    assert shop.objects("subscription_schedule") == []


def test_who_had_the_plan_at_last_years_price_gets_no_first_time_coupon(shop):
    """CHK-11"""
    old = shop.sold_elsewhere(LAST_YEAR)
    shop.take_over()
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{old}")
    shop.served()
    assert not shop.sessions("open")[0]["discounts"]


def test_debit_that_bounced_had_the_first_time_coupon(shop):
    """CHK-11: else each debit that bounces brings it again."""
    session = str(shop.served().session_id)
    shop.sandbox.pay(session, delayed=True)
    assert shop.sessions("complete")[0]["discounts"]
    shop.sandbox.settle(session, succeeds=False)
    [subscription] = shop.objects("subscription")
    assert subscription["status"] == "past_due"
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{subscription['id']}")
    shop.clock.advance(hours=25)
    shop.served()
    assert not shop.sessions("open")[0]["discounts"]


def test_tag_alone_blocks_a_second_sale_and_gives_no_access(shop):
    """SUB-73, SUB-74: moved in the portal to something that is not sold here."""
    shop.subscribe("user_1")
    shop.told()
    [subscription] = shop.objects("subscription")
    item = {"id": subscription["items"]["data"][0]["id"], "price": ELSEWHERE}
    shop.sandbox.change_subscription(subscription["id"], {"items": [item]})
    shop.told()
    assert shop.read()["access"] == {"granted": False, "reason": "not_sold", "until": None}
    assert shop.read()["subscription"]["plan"] is None
    next_step = shop.open_incidents()[NOT_SOLD]
    assert ELSEWHERE in str(next_step)
    assert "former_prices" in str(next_step)
    assert shop.served().status is CheckoutStatus.REFUSED
    shop.sandbox.change_subscription(subscription["id"], {"items": [{**item, "price": LAST_YEAR}]})
    shop.told()
    assert shop.read()["access"]["granted"] is True
    assert shop.open_incidents() == {}


def test_price_that_a_payment_link_sold_is_an_incident_until_its_buyer_is_named(shop):
    """SUB-75"""
    link = shop.sandbox.request(
        "POST",
        "/v1/payment_links",
        {"line_items": [{"price": shop.catalog.plans["standard"].price, "quantity": 1}]},
    ).body["id"]
    session = shop.sandbox.visit_link(link, base_url="http://sandbox.invalid")
    shop.sandbox.pay(session["id"])
    shop.told()
    customer = shop.objects("subscription")[0]["customer"]
    assert customer in str(shop.open_incidents()[UNOWNED])
    shop.take_over("user_1", customer)
    assert shop.read()["access"]["granted"] is True
    assert shop.open_incidents() == {}


def test_second_subscription_at_a_former_price_is_a_duplicate(shop):
    """SUB-8, SUB-73: although it has no tag."""
    customer = shop.subscribe("user_1")
    shop.sold_elsewhere(LAST_YEAR, customer=customer)
    shop.told()
    assert list(shop.open_incidents()) == [DUPLICATE]


def test_price_that_was_added_beside_the_old_one_is_an_incident_until_one_goes(shop):
    """SUB-120: an update of a subscription that names no item adds one."""
    shop.sold_elsewhere(LAST_YEAR)
    shop.take_over()
    assert shop.open_incidents() == {}
    [subscription] = shop.objects("subscription")
    added = {"items": [{"price": shop.catalog.plans["standard"].price}]}
    shop.sandbox.change_subscription(subscription["id"], added)
    shop.told()
    next_step = shop.open_incidents()[SEVERAL_PLANS]
    assert LAST_YEAR in str(next_step)
    assert shop.read()["access"]["granted"] is True
    old = {"id": subscription["items"]["data"][0]["id"], "deleted": True}
    shop.sandbox.change_subscription(subscription["id"], {"items": [old]})
    shop.told()
    assert shop.open_incidents() == {}


def test_older_plan_is_a_price_by_the_id_that_its_maker_chose(shop):
    """SUB-73"""
    plan = shop.catalog.plans["standard"].model_copy(update={"former_prices": ("gold-monthly",)})
    shop.catalog = shop.catalog.model_copy(update={"plans": {**shop.catalog.plans, "standard": plan}})
    month = {"recurring": {"interval": "month"}, "currency": "usd", "unit_amount": 700}
    shop.sandbox.seed([{"object": "price", "id": "gold-monthly", "product": "prod_gold", **month}])
    shop.sold_elsewhere("gold-monthly")
    shop.take_over()
    assert shop.read()["subscription"]["plan"] == "standard"
    assert shop.served().status is CheckoutStatus.REFUSED
