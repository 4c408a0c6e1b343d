"""Restricted keys: what SECURITY.md says that a key needs is enough for all of its process' work, and none of it is
too much. The sandbox refuses what a key may not do, as Stripe does."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from billing.checkout.view import CheckoutView
from billing.coordination.jobs import RemedyDuplicates
from billing.customers.customers import claim_customer
from billing.doctor.examine import examine
from billing.doctor.finding import Verdict
from billing.duplicates.context import Context as RemedyContext
from billing.duplicates.remedy import remedy_duplicates
from billing.errors import StripeMisconfigured
from billing.models import CheckoutStatus, OperationStatus, checkouts, customers, events, operations
from billing.operations.calls import Kind
from billing.operations.requests import read_operation
from billing.operators.erase import count_holdings, erase_user
from billing.operators.installation import bind
from billing.operators.listing import Wanted
from billing.operators.lookup import list_incidents
from billing.process.settings import load_settings
from billing.stripe_gateway import API_VERSION, GatewayClient
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.queries import read_subscription
from billing.subscriptions.sync import sync_customer
from billing.webhooks.endpoint import PATH, Action, set_up_endpoint
from sandbox import thin
from sandbox.permissions import needed
from tests.support.builders import build_event
from tests.support.checkout_world import ORIGIN
from tests.support.databases import sqlite_in
from tests.support.in_process import gateway
from tests.support.reconcile_world import Shop
from tests.support.running_dev import ROOT

KEY = "rk_test_of_this_process"
_PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
_ROWS = re.findall(
    r"^\| ([^|]+) \|([^|]*)\|([^|]*)\|$", _PAGE[_PAGE.index("## What each process needs") :], re.MULTILINE
)
NEEDS = {
    name.replace("`", ""): frozenset(re.findall(r"`([a-z_]+_(?:read|write))`", writes + reads))
    for name, writes, reads in _ROWS
}


class Refused(AssertionError):
    """What the ledger keeps of a refusal, where nothing is raised."""


class RestrictedShop(Shop):
    """A shop whose processes have a restricted key."""

    stripe: GatewayClient

    def restrict(self, permissions: frozenset[str]) -> None:
        """From here on, with this key."""
        self.sandbox.restrict(KEY, permissions)
        self.stripe = gateway(self.sandbox, clock=self.clock, api_key=KEY)

    def bind(self) -> None:
        """As each process does at its start."""
        settings = load_settings(stripe_api_key=KEY, _env_file=None)
        bind(database=self.database, stripe=self.stripe, settings=settings, clock=self.clock)

    def answered(self, plan: str) -> CheckoutView:
        """A checkout that is open now."""
        checkout_id = self.ask(plan)
        self.work()
        view = self.view(checkout_id)
        if view.status is not CheckoutStatus.OPEN:
            raise Refused(next(row.error for row in self.rows(checkouts) if row.id == checkout_id))
        return view

    def changed(self, kind: Kind, **request: Any) -> None:
        """An operation that succeeds."""
        made = self.change(kind, **request)
        self.work()
        rest = {"database": self.database, "clock": self.clock}
        view = read_operation(made.operation_id, user_id="user_1", **rest)
        if view.status is not OperationStatus.SUCCEEDED:
            raise Refused(next(row.error for row in self.rows(operations) if row.id == made.operation_id))

    def told(self, *more: dict[str, Any]) -> None:
        """What happened at Stripe arrives, as snapshots and as thin notifications, and these too; and is worked."""
        self.queue.sent.clear()
        self.deliver([*self.made(), *map(thin.notification, self.made()), *more])
        self.work_events()
        for row in self.rows(events):
            if row.error or row.status not in ("done", "ignored"):
                raise Refused(row.error or row.status)

    def customer(self) -> str:
        """The buyer's."""
        with self.database.read() as connection:
            return str(connection.scalar(sa.select(customers.c.customer_id)))


def _work(shop: RestrictedShop) -> None:
    """Everything that workers do at Stripe."""
    shop.bind()
    shop.answered("commit")
    session = shop.answered("standard").session_id  # the other one is expired
    paid = shop.sandbox.pay(str(session))
    [charge] = shop.objects("charge")
    dispute = build_event("charge.dispute.created", {"id": "du_1", "object": "dispute", "charge": charge["id"]})
    named = {"id": "du_2", "type": "dispute", "url": "/v1/disputes/du_2"}
    thin_dispute = {**thin.notification(shop.made()[-1]), "id": "evt_test_1", "related_object": named}
    shop.told(dispute, {**thin_dispute, "type": "v1.charge.dispute.closed"})
    seen = read_subscription("user_1", database=shop.database, catalog=shop.catalog, clock=shop.clock)
    assert seen["access"]["granted"] is True

    shop.changed(Kind.CANCEL)
    shop.changed(Kind.REACTIVATE)
    shop.changed(Kind.SWITCH, plan="commit")
    shop.changed(Kind.UNDO_SWITCH)
    shop.changed(Kind.PORTAL, return_url=f"{ORIGIN}/account")
    shop.told()
    shop.reconcile(thorough=True)
    assert shop.projection() == shop.truth()

    _remedy(shop, str(paid["subscription"]))
    _other_currency(shop)


def _other_currency(shop: RestrictedShop) -> None:
    """A user whom another program bills in another currency."""
    customer = shop.sandbox.request("POST", "/v1/customers").body
    credit = {"amount": "-100", "currency": "eur"}
    shop.sandbox.request("POST", f"/v1/customers/{customer['id']}/balance_transactions", credit)
    claim_customer("user_2", customer["id"], database=shop.database, clock=shop.clock)
    checkout_id = shop.ask(user="user_2")
    shop.work()
    [error] = [row.error for row in shop.rows(checkouts) if row.id == checkout_id]
    if error["code"] != "currency_mismatch":
        raise Refused(error)


def _remedy(shop: RestrictedShop, first: str) -> None:
    """A second subscription, of a page of another program's, is canceled; its debit is refunded once it has arrived."""
    customer, tag = shop.customer(), {"type": shop.catalog.product}
    credit = {"amount": -300, "currency": "usd"}
    shop.sandbox.request("POST", f"/v1/customers/{customer}/balance_transactions", credit)
    page: dict[str, Any] = {"mode": "subscription", "customer": customer, "success_url": "https://old.example"}
    page |= {"line_items": [{"price": shop.catalog.plans["standard"].price, "quantity": 1}], "metadata": tag}
    shop.clock.advance(hours=2)
    session = shop.sandbox.request(
        "POST", "/v1/checkout/sessions", {**page, "subscription_data": {"metadata": tag}}
    ).body
    shop.sandbox.pay(session["id"], delayed=True)
    places: dict[str, Any] = {"database": shop.database, "clock": shop.clock, "stripe": shop.stripe}
    places |= {"catalog": shop.catalog, "queue": shop.queue}
    sync_customer(customer, SyncContext(**places))
    [incident_id] = [job.row_id for job in shop.queue.sent if isinstance(job, RemedyDuplicates)]
    for _ in range(2):
        remedy_duplicates(incident_id, RemedyContext(cancels=True, locks=shop.locks, **places))
        reasons = [str(one["reason"]) for one in list_incidents(Wanted(10), database=shop.database)]
        if refusals := [reason for reason in reasons if "STRIPE_API_KEY" in reason]:
            raise Refused(refusals[0])
        if shop.objects("payment_intent")[0]["status"] == "processing":
            shop.sandbox.settle(session["id"])
        shop.clock.advance(minutes=61)
    assert [one["id"] for one in shop.objects("subscription") if one["status"] == "active"] == [first]
    assert len(shop.objects("refund")) == 1
    assert len(shop.objects("customer_balance_transaction")) == 3  # given, taken, given back


def _examine(shop: RestrictedShop) -> None:
    """`onelane doctor`: what it asks of Stripe."""
    catalog = str(ROOT / "catalog.toml")
    ledger = shop.database.url.render_as_string(hide_password=False)
    places = {"catalog": catalog, "redis_url": "redis://127.0.0.1:1/0", "database_url": ledger}
    settings = load_settings(stripe_api_key=KEY, **places, _env_file=None)
    endpoint = {"url": f"https://app.example.com{PATH}", "enabled_events": ["*"], "api_version": API_VERSION}
    shop.sandbox.request("POST", "/v1/webhook_endpoints", endpoint)
    at_stripe = ("stripe", "endpoint", "catalog", "portal", "currency", "buying")
    said = [one for one in examine(settings, stripe=shop.stripe) if one.subject in at_stripe]
    for finding in said:
        if finding.verdict is not Verdict.OK:
            raise Refused(finding.sentence)
    assert [one.subject for one in said] == list(at_stripe)


def _erase(shop: RestrictedShop) -> None:
    """`onelane customers erase` of a user with an open payment page, their customer at Stripe included."""
    shop.bind()
    with_full_key, shop.stripe = shop.stripe, gateway(shop.sandbox, clock=shop.clock)
    shop.answered("standard")
    shop.stripe = with_full_key
    count_holdings("user_1", shop.context(), delete_at_stripe=True)
    erase_user("user_1", shop.context(), reason="asked for", delete_at_stripe=True)
    assert shop.sessions("open") == []


def _set_up(shop: RestrictedShop) -> None:
    """`onelane webhooks setup`"""
    rest = {"stripe": shop.stripe, "api_version": API_VERSION, "dry_run": False}
    assert set_up_endpoint("https://app.example.com/webhooks/stripe", **rest).action is Action.CREATED


JOBS: dict[str, Callable[[RestrictedShop], None]] = {
    "workers": _work,
    "onelane doctor": _examine,
    "onelane customers erase": _erase,
    "onelane webhooks setup": _set_up,
}
EACH = [(process, name) for process in JOBS for name in sorted(NEEDS[process])]


@pytest.fixture
def shop(tmp_path: Any) -> Iterator[RestrictedShop]:
    """On SQLite: what is asked of Stripe is the same on PostgreSQL."""
    with sqlite_in(tmp_path) as database:
        yield RestrictedShop(database)


def test_every_process_that_has_a_key_is_tried_here() -> None:
    """OPS-60"""
    assert {process for process, names in NEEDS.items() if names} == set(JOBS)


def test_nothing_is_asked_of_stripe_for_which_no_key_has_a_permission() -> None:
    """OPS-60: a new call of the gateway has to be thought of here, too."""
    source = (ROOT / "billing" / "stripe_gateway" / "calls.py").read_text("utf-8")
    paths = set(re.findall(r'"(/v[12]/[^"]+)"', source))
    names = set().union(*NEEDS.values())
    assert len(paths) > 20
    paths -= {"/v1/test_helpers/test_clocks/{id}"}  # in test mode, and only where the key may (SUB-119)
    assert [path for path in paths if not {needed("GET", path), needed("POST", path)} & names] == []


@pytest.mark.parametrize("process", JOBS)
def test_what_is_documented_is_enough(shop: RestrictedShop, process: str) -> None:
    """OPS-60"""
    shop.restrict(NEEDS[process])
    JOBS[process](shop)
    asked = [one for one in shop.sandbox.log if one["status"] in (401, 403)]
    assert asked == []


@pytest.mark.parametrize(("process", "name"), EACH)
def test_without_any_one_of_them_something_is_refused_and_named(shop: RestrictedShop, process: str, name: str) -> None:
    """OPS-60, OPS-61: of a permission to write, the one to read is left."""
    left = {name.replace("_write", "_read")} if name.endswith("_write") else set()
    shop.restrict(NEEDS[process] - {name} | left)

    with pytest.raises((StripeMisconfigured, Refused), match="does not let STRIPE_API_KEY do") as refusal:
        JOBS[process](shop)

    [(method, route)] = re.findall(r"STRIPE_API_KEY do ([A-Z]+) (/[^ ]+?)[. ]", str(refusal.value))
    assert needed(method, route) == name
    assert "SECURITY.md" in str(refusal.value)
