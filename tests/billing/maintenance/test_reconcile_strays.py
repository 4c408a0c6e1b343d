"""Reconciling: open sessions that no live attempt owns are expired, by the checkout protocol's own step."""

import pytest
import sqlalchemy as sa

from billing.models import (
    lanes,
)


def lose_lane(shop, **values):
    """The ledger comes back from a backup: the lane does not know of its last attempt."""
    with shop.database.write() as connection:
        connection.execute(sa.update(lanes).values(state="closed", nonce=None, session_id=None, **values))


def test_open_session_that_no_live_attempt_owns_is_expired(shop):
    """WHK-48, LAN-5, faults row 26."""
    checkout = shop.served("standard")
    lose_lane(shop)
    row = shop.reconcile()
    assert row.report["strays"] == 1
    assert [(one["id"], one["status"]) for one in shop.sessions()] == [(checkout.session_id, "expired")]


def test_session_that_a_lane_owns_stays_open(shop):
    """WHK-48: also one that a worker is just closing."""
    checkout = shop.served("standard")
    assert shop.reconcile().report["strays"] == 0
    with shop.database.write() as connection:
        connection.execute(sa.update(lanes).values(state="closing"))
    assert shop.reconcile().report["strays"] == 0
    assert [one["id"] for one in shop.sessions("open")] == [checkout.session_id]


def test_session_opened_while_we_listed_is_no_stray(shop):
    """WHK-48, LAN-5: the lane is read after the list."""
    shop.served("standard")
    lose_lane(shop)
    real = shop.stripe.list_sessions
    [session] = shop.sessions("open")

    def adopt(customer_id, **options):
        listed = real(customer_id, **options)
        with shop.database.write() as connection:
            nonce = session["metadata"]["nonce"]
            connection.execute(sa.update(lanes).values(state="open", nonce=nonce, session_id=session["id"]))
        return listed

    shop.stripe.list_sessions = adopt
    shop.reconcile()
    assert [one["id"] for one in shop.sessions("open")] == [session["id"]]


@pytest.mark.parametrize("odd", ["\0", "\ud800", "n", "x" * 500])
def test_what_another_program_calls_a_nonce_stops_no_run(shop, odd):
    """LED-80, WHK-48: it is no row of ours, and no database is asked for it."""
    checkout = shop.served("standard")
    lose_lane(shop)
    real = shop.stripe.list_open_sessions

    def list_open_sessions(**options):
        return [{**one, "metadata": {**one["metadata"], "nonce": odd}} for one in real(**options)]

    shop.stripe.list_open_sessions = list_open_sessions
    row = shop.reconcile()
    assert not row.unfinished
    assert row.report["strays"] == 1
    assert [(one["id"], one["status"]) for one in shop.sessions()] == [(checkout.session_id, "expired")]


def test_stray_of_a_customer_whom_a_restored_ledger_lost_is_expired(shop):
    """WHK-48, faults row 26: only what carries a nonce of ours; an earlier system's sessions are left alone."""
    shop.served("standard")
    [ours] = shop.sessions("open")
    address = {"success_url": "https://app.example/ok", "mode": "subscription", "customer": "cus_elsewhere"}
    shop.sandbox.seed([{"object": "customer", "id": "cus_elsewhere", "email": "x@example.com"}])
    price = shop.catalog.plans["standard"].price
    theirs = shop.sandbox.request(
        "POST",
        "/v1/checkout/sessions",
        {**address, "line_items": [{"price": price, "quantity": 1}], "metadata": {"type": shop.catalog.product}},
    ).body["id"]
    with shop.database.write() as connection:
        for statement in (
            "DELETE FROM checkouts",
            "DELETE FROM attempts",
            "DELETE FROM lanes",
            "DELETE FROM customers",
        ):
            connection.execute(sa.text(statement))
    shop.reconcile()
    statuses = {one["id"]: one["status"] for one in shop.sessions()}
    assert statuses == {ours["id"]: "expired", theirs: "open"}


def test_stray_that_was_paid_meanwhile_is_not_taken_for_gone(shop):
    """WHK-48, LAN-8: its subscription reaches the projection by its events."""
    checkout = shop.served("standard")
    lose_lane(shop)
    real = shop.stripe.expire_session

    def pay_first(session_id):
        shop.sandbox.pay(session_id)
        return real(session_id)

    shop.stripe.expire_session = pay_first
    shop.reconcile()
    assert [(one["id"], one["status"]) for one in shop.sessions()] == [(checkout.session_id, "complete")]
    shop.stripe.expire_session = real
    shop.reconcile()
    shop.work_events()
    assert shop.projection() == shop.truth() != {}


def test_lane_that_a_worker_holds_is_left_to_the_next_run(shop):
    """WHK-48: the customer lock is the checkout's."""
    shop.served("standard")
    lose_lane(shop)
    with shop.locks.hold("lane:1") as lease:
        assert lease is not None
        shop.reconcile()
    assert len(shop.sessions("open")) == 1
    shop.reconcile()
    assert shop.sessions("open") == []
