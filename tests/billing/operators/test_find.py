"""`onelane find` and `customers show` on a ledger with one buyer's story."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.catalog import load_catalog
from billing.database import Database
from billing.errors import NotFound
from billing.models import (
    attempts,
    checkouts,
    customers,
    events,
    incidents,
    installation,
    lanes,
    operations,
    outbox,
    product_trials,
    projections,
    subscriptions,
)
from billing.operators.customer import WHY, show_customer
from billing.operators.find import find
from billing.subscriptions.access import AccessReason
from tests.support.builders import NOON, MovableClock
from tests.support.running_dev import ROOT

CATALOG = load_catalog(ROOT / "catalog.toml")
LATER = NOON + timedelta(minutes=5)
EMAIL = "Ann@example.com"


@pytest.fixture
def story(database: Database) -> Database:
    """Ann asked twice, paid the second page, and canceled; Bob only tried the product."""
    asked = {"plan": "standard", "price_id": "price_1", "request": {}, "fingerprint": "f", "body_hash": "h"}
    whose = {"lane_id": 1, "user_id": "ann", "status": "open"}
    tried = {"lane_id": 1, "parameters": {"customer": "cus_a"}, "fingerprint": "f", "created_at": NOON}
    row = {"livemode": False, "customer_id": "cus_a", "created_at": NOON, "received_at": LATER, "next_attempt_at": NOON}
    refused = "No such price. Stripe's request: req_77"
    changed = {"kind": "cancel", "request": {}, "body_hash": "h", "status": "failed", "sent": [], "arrived_at": LATER}
    rows: list[tuple[sa.Table, dict[str, Any]]] = [
        (
            customers,
            {
                "user_id": "ann",
                "customer_id": "cus_a",
                "idempotency_key": "k",
                "parameters": {"email": EMAIL},
                "created_at": NOON,
            },
        ),
        (lanes, {"id": 1, "user_id": "ann", "product": CATALOG.product, "last_number": 3}),
        (product_trials, {"user_id": "bob", "product": CATALOG.product, "started_at": NOON, "ends_at": LATER}),
        (installation, {"id": 1, "stripe_account": "acct_1", "livemode": False, "bound_at": NOON}),
        (projections, {"customer_id": "cus_a"}),
        (
            subscriptions,
            {
                "subscription_id": "sub_a",
                "customer_id": "cus_a",
                "product": CATALOG.product,
                "plan": "standard",
                "price_id": "price_1",
                "status": "active",
                "created_at": NOON,
            },
        ),
        (events, row | {"event_id": "evt_1", "type": "invoice.paid", "object_id": "in_1", "status": "done"}),
        (events, row | {"event_id": "evt_2", "type": "invoice.paid", "status": "dead", "error": refused}),
        (
            outbox,
            {
                "message_id": "msg_1",
                "customer_id": "cus_a",
                "kind": "subscription.activated",
                "payload": {},
                "status": "delivered",
                "created_at": LATER,
                "next_attempt_at": LATER,
                "delivered_at": LATER,
            },
        ),
        (
            incidents,
            {
                "id": 7,
                "customer_id": "cus_a",
                "product": CATALOG.product,
                "kind": "duplicate_subscriptions",
                "detail": {},
                "opened_at": LATER,
                "reason": refused,
            },
        ),
        (
            operations,
            changed
            | {
                "id": "op_1",
                "lane_id": 1,
                "user_id": "ann",
                "number": 3,
                "subscription_id": "sub_a",
                "error": {"code": "stripe_refused", "detail": refused},
            },
        ),
    ]
    for number, (nonce, outcome) in enumerate([("n1", "superseded"), ("n2", "completed")], 1):
        attempt = {"nonce": nonce, "idempotency_key": nonce, "session_id": f"cs_{number}", "outcome": outcome}
        rows.append(
            (
                attempts,
                tried
                | attempt
                | {"checkout_id": f"chk_{number}", "expires_at": NOON + timedelta(days=1), "url": "https://u"},
            )
        )
        times = {"arrived_at": NOON + timedelta(minutes=number), "answered_at": NOON + timedelta(minutes=number)}
        rows.append((checkouts, asked | whose | times | {"id": f"chk_{number}", "number": number, "nonce": nonce}))
    with database.write() as connection:
        for table, values in rows:
            connection.execute(sa.insert(table).values(values))
    return database


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", {"user"}),
        ("bob", {"user"}),
        ("cus_a", {"user"}),
        ("sub_a", {"subscription", "operation"}),
        ("cs_1", {"checkout", "session"}),
        ("evt_1", {"event"}),
        ("in_1", {"event"}),
        ("chk_2", {"checkout"}),
        ("op_1", {"operation"}),
        ("msg_1", {"notification"}),
        ("req_77", {"event", "incident", "operation"}),
        (hashlib.sha256(EMAIL.lower().encode()).hexdigest(), {"user"}),
        (EMAIL, set()),
        ("evt_", set()),
        ("%", set()),
        ("req_7_", set()),
        ("x' OR 1=1 --", set()),
    ],
)
def test_every_id_leads_to_its_user(text: str, expected: set[str], story: Database) -> None:
    """OPS-140"""
    hits = find(text, database=story)
    assert {hit.kind for hit in hits} == expected
    assert {hit.user_id for hit in hits} <= {"bob" if text == "bob" else "ann"}
    assert len(hits) == len(set(hits))


def test_customer_is_one_page_without_secrets(story: Database) -> None:
    """OPS-141"""
    shown = show_customer("ann", database=story, catalog=CATALOG, clock=MovableClock(LATER), limit=20)
    assert (shown["access"]["granted"], shown["access"]["because"]) == (True, WHY["active"])
    assert shown["access"]["subscription"] == "sub_a"
    assert [(row["id"], row["status"], row["session_id"]) for row in shown["checkouts"]] == [
        ("chk_2", "completed", "cs_2"),
        ("chk_1", "superseded", "cs_1"),
    ]
    assert shown["subscriptions"][0]["dashboard"] == "https://dashboard.stripe.com/test/subscriptions/sub_a"
    assert {entry["what"] for entry in shown["timeline"]} == {
        "checkout",
        "operation",
        "event",
        "notification",
        "incident",
    }
    times = [entry["at"] for entry in shown["timeline"]]
    assert times == sorted(times, reverse=True)
    assert EMAIL not in str(shown)
    assert "https://u" not in str(shown)


def test_user_with_nothing_yet_and_user_who_is_none(story: Database) -> None:
    shown = show_customer("bob", database=story, catalog=CATALOG, clock=MovableClock(NOON), limit=20)
    assert shown["access"]["because"] == WHY["product_trial"]
    assert (shown["timeline"], shown["customer_id"]) == ([], None)
    with pytest.raises(NotFound):
        show_customer("carol", database=story, catalog=CATALOG, clock=MovableClock(LATER), limit=20)


def test_every_reason_is_put_into_words() -> None:
    """A reason that no sentence explains would be a riddle at night."""
    assert set(WHY) == set(AccessReason)
