"""Events that are about a session, a dispute, or nobody: what is looked at beside the customer's subscriptions."""

import pytest
import sqlalchemy as sa

from billing.models import attempts, customers, events, lanes
from tests.support.builders import NOON, build_event, build_subscription

# --- sessions


@pytest.mark.parametrize(
    ("says", "outcome"), [("complete", "completed"), ("expired", "expired"), ("open", None), (None, None)]
)
def test_session_event_notes_what_stripe_says_of_the_session(
    stripe, record, work, read, database, clock, says, outcome
):
    """SUB-6: the event said completed; a session that Stripe does not know is left alone."""
    keep_attempt(database)
    if says:
        stripe.put({"id": "cs_1", "object": "checkout.session", "status": says, "customer": "cus_1"})
    session = {"id": "cs_1", "object": "checkout.session", "customer": "cus_1", "status": "complete"}
    work(record(build_event("checkout.session.completed", session)))
    assert [row.outcome for row in read(attempts)] == [outcome]
    assert [row.status for row in read(events)] == ["done"]
    assert [(row.state, row.version) for row in read(lanes)] == [("open", 3)]


def test_outcome_that_the_protocol_noted_stays(stripe, record, work, read, database):
    """SUB-6: a session that we expired for a newer checkout is `superseded`, whatever Stripe calls it."""
    keep_attempt(database, outcome="superseded")
    stripe.put({"id": "cs_1", "object": "checkout.session", "status": "expired", "customer": "cus_1"})
    session = {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"}
    work(record(build_event("checkout.session.expired", session)))
    assert [row.outcome for row in read(attempts)] == ["superseded"]


def keep_attempt(database, **instead):
    """One lane with one attempt that made session cs_1."""
    with database.write() as connection:
        user = {"user_id": "user_1", "customer_id": "cus_1", "idempotency_key": "k", "parameters": {}}
        connection.execute(sa.insert(customers).values(user | {"created_at": NOON}))
        lane = {"id": 1, "user_id": "user_1", "product": "kiloclaw", "state": "open", "version": 3, "nonce": "n"}
        connection.execute(sa.insert(lanes).values(lane | {"session_id": "cs_1"}))
        attempt = {"nonce": "n", "lane_id": 1, "checkout_id": "chk_1", "idempotency_key": "k", "parameters": {}}
        times = {"created_at": NOON, "expires_at": NOON}
        connection.execute(
            sa.insert(attempts).values(attempt | times | {"fingerprint": "f", "session_id": "cs_1"} | instead)
        )


# --- whose event


def test_dispute_is_worked_for_the_customer_of_its_charge(stripe, record, work, projected, read):
    """WHK-12."""
    stripe.put(build_subscription(), {"id": "ch_1", "object": "charge", "customer": "cus_1"})
    work(record(build_event("charge.dispute.created", {"id": "dp_1", "object": "dispute", "charge": "ch_1"})))
    assert projected() == {"sub_1": "active"}
    assert [(row.status, row.customer_id) for row in read(events)] == [("done", "cus_1")]


@pytest.mark.parametrize(
    "dispute",
    [
        {"id": "dp_1", "charge": "ch_guest"},
        {"id": "dp_1", "charge": "ch_unknown"},
        {"id": "dp_1", "charge": None},
        {"id": "dp_1", "charge": "../customers/cus_1"},
    ],
    ids=lambda dispute: str(dispute["charge"]),
)
def test_dispute_of_nobodys_charge_is_ignored(stripe, record, work, statuses, dispute):
    """WHK-11, faults row 66."""
    stripe.put({"id": "ch_guest", "object": "charge", "customer": None})
    work(record(build_event("charge.dispute.created", dispute)))
    assert statuses() == ["ignored"]
    assert "list_subscriptions" not in stripe.calls


def test_event_about_no_customer_is_ignored_without_asking_stripe(stripe, record, work, statuses):
    """WHK-11."""
    work(record(build_event("invoice.paid", {"id": "in_1", "object": "invoice", "customer": None})))
    assert (statuses(), stripe.calls) == (["ignored"], {})
