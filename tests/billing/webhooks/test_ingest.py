"""Receiving: what is in the ledger after a delivery, what was answered, and who was woken."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from billing.coordination.jobs import WorkEvents
from billing.errors import InvalidEvent, LedgerUnavailable
from billing.models import customers, installation
from billing.webhooks.ingest import Ingest
from tests.support.builders import NOON, SECRET, build_event, build_subscription, data_of, deliver
from tests.support.receiving import MAX_BYTES


def bind(database, *, livemode=False):
    """Let the ledger belong to acct_1."""
    with database.write() as connection:
        values = {"id": 1, "stripe_account": "acct_1", "livemode": livemode, "bound_at": NOON}
        connection.execute(sa.insert(installation).values(values))


# --- recording


def test_delivery_is_recorded_as_the_bytes_that_came_and_wakes_a_worker(take, rows, queue):
    """WHK-8, LED-3."""
    event = build_event(id="evt_a")
    assert take(event) == "recorded"
    [row] = rows()
    assert row.payload == deliver(event)[0]
    assert (row.event_id, row.type, row.status) == ("evt_a", "customer.subscription.updated", "pending")
    assert (row.customer_id, row.object_id, row.account, row.livemode) == ("cus_1", "sub_1", "", False)
    assert (row.created_at, row.received_at, row.attempts) == (NOON, NOON, 0)
    assert queue.sent == [WorkEvents()]


def test_second_delivery_is_a_duplicate(take, rows, queue):
    """LED-1."""
    event = build_event()
    assert [take(event), take(event)] == ["recorded", "duplicate"]
    assert len(rows()) == len(queue.sent) == 1


def test_hundred_deliveries_at_once_are_one_row_and_all_answered(take, rows):
    """LED-1, faults row 47."""
    event = build_event()
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: take(event), range(100)))
    assert sorted(answers) == ["duplicate"] * 99 + ["recorded"]
    assert len(rows()) == 1


def test_event_of_last_year_with_a_fresh_signature_is_recorded_once(take, rows):
    """LED-1, faults row 49."""
    old = build_event(created=1_700_000_000)
    assert [take(old), take(old)] == ["recorded", "duplicate"]
    assert rows()[0].created_at.year == 2023


def test_same_id_in_the_other_mode_and_account_is_another_event(take, rows):
    """LED-1."""
    for event in ({}, {"livemode": True}, {"account": "acct_2"}):
        assert take(build_event(id="evt_same", **event)) == "recorded"
    assert len(rows()) == 3


def test_worker_is_woken_only_after_the_commit(take, rows, queue):
    """LED-3: at the moment of the wake-up another connection already sees the row."""
    seen = []

    class Looking:
        def send(self, job):
            seen.append([row.id for row in rows()])

    take(build_event(), queue=Looking())
    assert seen == [[1]]


def test_wake_ups_of_commits_in_a_row_are_one_after_the_first(database, clock, monkeypatch):
    """LED-52: the first is sent at once, and the last before the web ends, however long the rest is."""
    monkeypatch.setattr("billing.webhooks.ingest.REST_SECONDS", 600)
    sent, first = [], threading.Event()

    class Queue:
        def send(self, job):
            sent.append(job)
            first.set()

    ingest = Ingest(secrets=[SECRET], database=database, queue=Queue(), clock=clock, max_bytes=MAX_BYTES)
    for number in range(5):
        body, header = deliver(build_event(), at=clock.now())
        assert ingest.submit(body, ingest.expect(len(body), header)).result(20)
        assert number or first.wait(20)
    assert len(sent) == 1
    ingest.close()
    assert len(sent) == 2


def test_queue_that_hangs_keeps_no_delivery_from_being_committed(rows, database, clock):
    """LED-50, WHK-85: and of the wake-ups that wait for it, one is enough."""
    let, sent = threading.Event(), []

    class Hanging:
        def send(self, job):
            sent.append(job)
            assert let.wait(20)

    ingest = Ingest(secrets=[SECRET], database=database, queue=Hanging(), clock=clock, max_bytes=MAX_BYTES)
    try:
        for _ in range(4):
            body, header = deliver(build_event(), at=clock.now())
            assert ingest.submit(body, ingest.expect(len(body), header)).result(20)
        assert len(rows()) == 4
    finally:
        let.set()
        ingest.close()
    assert len(sent) == 2


def test_failed_commit_is_no_answer_and_no_wake_up(take, rows, queue, database):
    """LED-3, faults rows 23 and 24."""

    class Failing:
        allow = staticmethod(lambda *_: None)

        def autocommit(self):
            return self

        def __enter__(self):
            self.block = database.write()
            return self.block.__enter__()

        def __exit__(self, *_):
            failure = LedgerUnavailable("the commit failed")
            self.block.__exit__(LedgerUnavailable, failure, None)
            raise failure

    event = build_event()
    with pytest.raises(LedgerUnavailable):
        take(event, database=Failing())
    assert rows() == []
    assert queue.sent == []
    assert take(event) == "recorded", "Stripe sends it again, and then it is new"


def test_counter_tells_what_became_of_deliveries(take):
    """WHK-10, faults row 58: what is not applied shows, too."""

    def count(result):
        return REGISTRY.get_sample_value("onelane_events_recorded_total", {"result": result}) or 0

    before = {result: count(result) for result in ("recorded", "duplicate", "ignored", "invalid_event")}
    event = build_event()
    take(event), take(event), take(build_event("product.created"))
    with pytest.raises(InvalidEvent):
        take(b"[]")
    assert {result: count(result) - before[result] for result in before} == dict.fromkeys(before, 1)


# --- nothing inside the data is a reason to refuse


@pytest.mark.parametrize(
    "value",
    [
        '"\\u0000"',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '{"\\ud800": 1}',
        '"\\ud83d\\ude00"',
        '"\U0001f600"',
        '"\\/\\b\\f"',
        "-0",
        "1E-2",
        "123456789012345678901234567890",
        "0.1e1",
        "[[],{}]",
        '{"a":1,"a":2}',
        '"\u2028\x7f\ufffe"',
        '""',
        "null",
        '"); DROP TABLE events; --"',
    ],
    ids=ascii,
)
def test_whatever_json_the_data_holds_is_recorded_as_it_came(take, rows, value):
    """WHK-8, faults rows 55, 57 and 69."""
    body = data_of(value)
    assert take(body) == "recorded"
    assert rows()[0].payload == body


@pytest.mark.parametrize(
    ("subject", "customer_id", "object_id"),
    [
        ({"id": "cus_9", "object": "customer"}, "cus_9", "cus_9"),
        ({"id": "sub_9", "customer": {"id": "cus_9", "object": "customer"}}, "cus_9", "sub_9"),
        ({"object": "entitlements.active_entitlement_summary", "customer": "cus_9"}, "cus_9", None),
        ({"id": "sub_9", "customer": "cus_9\u0000"}, None, "sub_9"),
        ({"id": "sub_9\ud800", "customer": "cus_\ud800"}, None, None),
        ({"id": "../cus_9", "customer": "cus_x?expand[]=a"}, None, None),
        ({"id": "cs_" + "a" * 300, "customer": "cus_" + "a" * 251}, None, None),
        ({"id": 7, "customer": ["cus_9"]}, None, None),
        ({"id": {"id": {}}, "customer": {"id": None}}, None, None),
        ({"id": "sub_9", "metadata": {"customer": "cus_8", "user_id": "user_8"}}, None, "sub_9"),
        ({}, None, None),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_only_ids_of_stripes_form_become_columns(take, rows, subject, customer_id, object_id):
    """WHK-9, faults rows 55, 61 and 66."""
    assert take(build_event(subject=subject)) == "recorded"
    [row] = rows()
    assert (row.customer_id, row.object_id) == (customer_id, object_id)


@pytest.mark.parametrize(
    "event",
    [
        build_event("product.created", {"id": "prod_1", "object": "product"}),
        build_event("something.nobody.knows", {}),
        {
            "id": "evt_test_thin",
            "object": "v2.core.event",
            "type": "v2.core.account[configuration.merchant].capability_status_updated",
            "created": "2026-06-01T12:00:00.123Z",
            "livemode": False,
            "related_object": {"id": "acct_9", "type": "v2.core.account", "url": "/v2/core/accounts/acct_9"},
        },
        {
            "id": "evt_thin_2",
            "object": "v2.core.event",
            "type": "v1.billing.meter.no_meter_found",
            "created": "2026-06-01T14:00:00+02:00",
            "livemode": False,
            "related_object": None,
        },
        build_event("customer.subscription.updated", object="v2.core.event", data=None),
    ],
    ids=lambda event: event["type"],
)
def test_thin_and_unfollowed_events_are_kept_but_not_worked(take, rows, queue, event):
    """WHK-10, faults row 58."""
    assert take(event) == "recorded"
    [row] = rows()
    assert row.status == "ignored"
    assert row.created_at.replace(microsecond=0) == NOON
    assert queue.sent == []


def test_unknown_api_version_is_no_matter(take, rows):
    """WHK-8, faults rows 58 and 76: what counts is fetched, in our own version."""
    assert take(build_event(api_version="2099-01-01.unheard")) == "recorded"
    assert rows()[0].status == "pending"


# --- whose events they are


def test_late_event_of_an_erased_customer_brings_nothing_back(take, rows, database):
    """LED-12, faults row 77: it is worked like any other, from its envelope."""
    with database.write() as connection:
        user = {"user_id": "user_1", "customer_id": "cus_1", "idempotency_key": "k", "parameters": {}}
        connection.execute(sa.insert(customers).values(user | {"created_at": NOON, "erased_at": NOON}))
    take(build_event()), take(build_event(subject=build_subscription(customer="cus_2")))
    erased, other = rows()
    assert (erased.payload, erased.customer_id, erased.status) == (None, "cus_1", "pending")
    assert other.payload


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({}, "pending"),
        ({"account": None}, "pending"),
        ({"account": "acct_1"}, "pending"),
        ({"account": "acct_2"}, "rejected"),
        ({"livemode": True}, "rejected"),
        ({"livemode": True, "account": "acct_1"}, "rejected"),
        ({"livemode": True, "type": "product.created"}, "rejected"),
    ],
)
def test_event_of_another_account_or_mode_is_recorded_as_rejected(take, rows, queue, database, event, status):
    """LED-10, faults row 59: answered like any other, so that Stripe does not send it for three days."""
    bind(database)
    assert take(build_event(**event)) == "recorded"
    assert rows()[0].status == status
    assert bool(queue.sent) is (status == "pending")


def test_live_ledger_rejects_test_events(take, rows, database):
    """LED-10."""
    bind(database, livemode=True)
    take(build_event(livemode=False)), take(build_event(livemode=True))
    assert [row.status for row in rows()] == ["rejected", "pending"]


def test_unbound_ledger_takes_either_mode_but_no_other_account(take, rows):
    """LED-10: before the first start with a key there is nothing to compare with but our own account, which is ''."""
    take(build_event(livemode=True)), take(build_event(livemode=False)), take(build_event(account="acct_2"))
    assert [row.status for row in rows()] == ["pending", "pending", "rejected"]


def test_customer_is_read_from_the_object_not_from_other_peoples_fields(take, rows):
    """WHK-9."""
    take(build_event(customer="cus_8", subject=build_subscription(customer="cus_7")))
    assert rows()[0].customer_id == "cus_7"
