"""Claims: one worker at a time for a customer, one fetch for what came during the last one, and a rest between."""

from contextlib import nullcontext

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.errors import StripeRefused, StripeUnclear
from billing.maintenance.sweep import sweep
from billing.models import events
from billing.rules.lease import LEASE
from billing.webhooks import claim as claims
from billing.webhooks import events_store
from billing.webhooks.claim import claim
from tests.support.builders import build_event, build_subscription


@pytest.mark.parametrize("analysed", [False, True])
def test_what_a_claim_asks_of_a_customer_is_answered_by_that_customers_rows(database, clock, analysed):
    """LED-24: also in a ledger that nobody has analysed."""
    now, asked = clock.now(), []
    times = dict.fromkeys(("next_attempt_at", "created_at", "received_at"), now)
    row = {"livemode": False, "type": "invoice.paid", "status": "pending", "payload": b"x" * 500, **times}
    rows = [{**row, "event_id": f"evt_{number}", "customer_id": f"cus_{number // 10}"} for number in range(1000)]
    with database.write() as connection:
        connection.execute(sa.insert(events), rows)
        if analysed:
            connection.exec_driver_sql("ANALYZE")

    def note(_connection, _cursor, statement, values, *_others):
        asked.append((statement, values))

    with database.write() as connection:
        sa.event.listen(connection, "before_cursor_execute", note)
        assert len(claim(connection, now=now).ids) == 10
        find, values = asked[0]
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        plan = connection.exec_driver_sql(f"{explain} {find}", values).all()
        take, values = asked[1]
        taking = connection.exec_driver_sql(f"{explain} {take}", values).all()
    # Twice: for the customer who is taken, and for whether there is another one.
    assert str(plan).count("ix_events_customer_id_claimed_until") == 2, plan
    # Three questions each about what else waits for that customer; all that waits is read for none of them.
    assert str(plan).count("ix_events_customer_id_status") == 6, plan
    assert "ix_events_customer_id_status" in str(taking), taking
    assert "ix_events_status_next_attempt_at" not in str(taking), taking


def test_events_that_came_during_a_fetch_are_left_to_one_following_fetch(stripe, record, work, during, statuses):
    """WHK-74, WHK-77, LED-40: whoever is woken for them meanwhile finds the customer held, and goes."""
    stripe.put(build_subscription())
    record(build_event())

    def three_more():
        for _ in range(3):
            record(build_event())
            work()
        assert stripe.calls == {"list_subscriptions": 1}

    during(three_more)
    work()
    assert statuses() == ["done"] * 4
    assert stripe.calls == {"list_subscriptions": 2}


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer"), "dead"),
        (StripeUnclear("busy", status=503, retry_after=60), "pending"),
    ],
    ids=["refused", "put off for long"],
)
def test_what_came_during_a_failure_does_not_wait_for_its_retry(stripe, record, work, during, statuses, error, ends):
    """WHK-74, LED-11."""
    stripe.put(build_subscription())
    record(build_event())

    def fail():
        record(build_event())
        raise error

    during(fail)
    work()
    assert statuses() == [ends, "done"]


def test_killed_workers_customer_is_taken_over_when_its_lease_has_ended(database, record, work, statuses, clock, queue):
    """LED-40, W2: also the events that came after it was killed; the sweep finds them."""
    record(build_event()), record(build_event())
    with database.write() as connection:
        assert len(claim(connection, now=clock.now()).events) == 2
    record(build_event())
    work()
    assert statuses() == ["pending"] * 3
    clock.advance(seconds=LEASE.total_seconds())
    queue.sent.clear()
    sweep(database=database, queue=queue, clock=clock)
    assert queue.sent == [WorkEvents()]
    work()
    assert statuses() == ["done"] * 3


def test_lease_by_a_clock_that_is_ahead_holds_nobody_up(database, record, work, statuses, clock):
    """LED-40; fault 30: a worker whose clock is two hours ahead was killed."""
    record(build_event())
    with database.write() as connection:
        assert claim(connection, now=clock.now() + 300 * LEASE).events
    work(record(build_event()))
    assert statuses() == ["done", "done"]


def test_of_two_workers_that_claim_at_once_one_gets_the_customer(database, record, clock):
    """LED-40: neither sees what the other one takes before it commits; the second one goes on to another customer."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    first = record(build_event())
    with database.write() as one:
        assert claim(one, now=clock.now()).ids == [first]
        record(build_event())
        other = record(build_event(subject=build_subscription(customer="cus_2")))
        with database.write() as two:
            assert claim(two, now=clock.now()).ids == [other]
            assert claim(two, now=clock.now()).ids == []


def test_claim_that_lost_what_it_had_found_takes_the_next_customer(database, record, clock, monkeypatch):
    """LED-2: another worker's claim was committed in between."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    record(build_event())
    other = record(build_event(subject=build_subscription(customer="cus_2")))
    real = claims.Prepared.run

    def overtaken(self, connection, now, **values):
        answer = real(self, connection, now, **values)
        if not values:  # it has found the first customer, and has the lock, which a claim before the lock's time lacks
            monkeypatch.undo()
            with database.write() as faster:
                row = {"customer": "cus_1", "token": "faster"}
                assert claims._take("customer", "postgresql").run(faster, now, **row).all()
        return answer

    monkeypatch.setattr(claims.Prepared, "run", overtaken)
    with database.write() as connection:
        assert claim(connection, now=clock.now()).ids == [other]


def test_dispute_whose_customer_was_found_at_this_moment_is_not_taken_beside_the_customers_worker(
    database, record, clock, monkeypatch
):
    """LED-40: its worker found out whose it is after a second worker, by a clock that is ahead, had looked."""
    record(build_event())
    dispute = record(build_event("charge.dispute.created", {"id": "dp_1", "object": "dispute", "charge": "ch_1"}))
    with database.write() as connection:
        holder, finder = claim(connection, now=clock.now()), claim(connection, now=clock.now())
    assert finder.ids == [dispute]
    real = claims.Prepared.run
    with database.write() as connection:

        def find(self, on, now, **values):
            answer = real(self, on, now, **values)
            monkeypatch.undo()
            # SQLite has one writer at a time: there it can only be done in our own transaction.
            with nullcontext(connection) if database.is_sqlite else database.write() as first:
                events_store.note_customer(first, dispute, token=finder.token, customer_id="cus_1")
                events_store.renew(first, holder.ids, token=holder.token, now=clock.now() + LEASE)
            return answer

        monkeypatch.setattr(claims.Prepared, "run", find)
        assert claim(connection, now=clock.now() + LEASE).ids == []


def test_takeover_counts_as_a_failure_and_a_claim_does_not(database, record, clock):
    """LED-7."""
    record(build_event())
    for failures in range(3):
        with database.write() as connection:
            assert [event.attempts for event in claim(connection, now=clock.now()).events] == [failures]
        clock.advance(seconds=LEASE.total_seconds())


# --- a rest between
