"""Processing: what the ledger holds after a customer's events were worked, whatever came in between."""

import itertools
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.errors import (
    LedgerUnavailable,
    StripeBusy,
    StripeMisconfigured,
    StripeRefused,
    StripeUnclear,
)
from billing.models import attempts, customers, events, incidents, lanes, outbox, projections
from billing.rules.lease import LEASE
from billing.subscriptions import projection_store
from billing.subscriptions.sync import sync_customer
from billing.webhooks import events_store
from billing.webhooks.claim import any_due, claim
from billing.webhooks.process import MAX_FAILURES
from tests.support.builders import CATALOG, NOON, build_event, build_subscription, stamp

REFUSED = StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer")


@pytest.fixture
def read(database):
    """Every row of a table, in order."""

    def read(table):
        with database.read() as connection:
            return connection.execute(sa.select(table).order_by(*table.primary_key)).all()

    return read


@pytest.fixture
def projected(database):
    """A customer's subscriptions as projected: id and status."""

    def projected(customer_id="cus_1"):
        with database.read() as connection:
            rows = projection_store.read_subscriptions(connection, customer_id)
        return {row.subscription_id: row.status for row in rows}

    return projected


@pytest.fixture
def statuses(read):
    """The status of every event."""
    return lambda: [row.status for row in read(events)]


def failing(error, *, times=10**6):
    """Let calls to Stripe end like this."""
    left = iter(range(times))

    def fail(_name):
        if next(left, None) is not None:
            raise error

    return fail


# --- the projection ends equal to Stripe


def test_projection_is_what_stripe_says_and_not_what_the_event_says(stripe, record, work, projected, statuses):
    """WHK-13: an event is a hint; applying its payload would give `active`."""
    stripe.put(build_subscription(status="past_due"))
    work(record(build_event(subject=build_subscription(status="active"))))
    assert projected() == {"sub_1": "past_due"}
    assert statuses() == ["done"]


@pytest.mark.parametrize("order", [*itertools.permutations(["created", "updated", "deleted"])], ids="-".join)
def test_any_order_of_events_ends_in_the_same_projection(stripe, record, work, projected, order):
    """WHK-13, faults row 48."""
    stripe.put(build_subscription(status="canceled", ended_at=stamp(NOON)))
    says = {"created": "incomplete", "updated": "active", "deleted": "canceled"}
    for type in order:
        work(record(build_event(f"customer.subscription.{type}", build_subscription(status=says[type]))))
    assert projected() == {"sub_1": "canceled"}


def test_row_tells_plan_periods_and_what_comes_next(stripe, record, work, database):
    """SUB-3."""
    stripe.put(
        build_subscription(schedule="sub_sched_1", cancel_at_period_end=True),
        {
            "id": "sub_sched_1",
            "object": "subscription_schedule",
            "status": "active",
            "current_phase": {"start_date": stamp(NOON), "end_date": stamp(NOON + timedelta(days=30))},
            "phases": [
                {"start_date": stamp(NOON), "items": [{"price": "price_kiloclaw_standard"}]},
                {"start_date": stamp(NOON + timedelta(days=30)), "items": [{"price": "price_kiloclaw_commit"}]},
            ],
        },
    )
    work(record(build_event("subscription_schedule.updated", {"id": "sub_sched_1", "customer": "cus_1"})))
    with database.read() as connection:
        [row] = projection_store.read_subscriptions(connection, "cus_1")
    assert (row.product, row.plan, row.price_id, row.quantity) == ("kiloclaw", "standard", "price_kiloclaw_standard", 1)
    assert (row.current_period_start, row.current_period_end) == (NOON, NOON + timedelta(days=30))
    assert (row.schedule_id, row.scheduled_plan, row.cancel_at_period_end) == ("sub_sched_1", "commit", True)


def test_subscription_that_stripe_no_longer_lists_leaves_the_projection(stripe, record, work, projected, read):
    """SUB-5."""
    stripe.put(build_subscription(), build_subscription("sub_2", metadata={}, price="price_elsewhere"))
    work(record(build_event()))
    stripe.remove("sub_1")
    work(record(build_event()))
    assert projected() == {"sub_2": "active"}
    assert [row.kind for row in read(outbox)] == ["subscription.activated", "subscription.canceled"]


def test_deleted_customer_is_an_answer(stripe, record, work, projected, read, statuses):
    """SUB-5, faults row 60: no error, no retry, nothing left."""
    stripe.put(build_subscription())
    work(record(build_event()))
    stripe.put({"id": "cus_1", "object": "customer", "deleted": True}, build_subscription(status="canceled"))
    work(record(build_event("customer.deleted", {"id": "cus_1", "object": "customer"})))
    assert projected() == {"sub_1": "canceled"}
    assert read(projections)[0].deleted is True
    stripe.remove("cus_1")
    work(record(build_event()))
    assert projected() == {}
    assert statuses() == ["done"] * 3


def test_customer_that_never_was_is_done_at_once(stripe, record, work, projected, read, statuses):
    """SUB-5: a list filtered by an unknown customer is refused with 400 resource_missing."""
    stripe.before_arrival = failing(StripeRefused("", status=400, stripe_code="resource_missing", param="customer"))
    work(record(build_event()))
    assert (projected(), statuses()) == ({}, ["done"])
    assert read(projections)[0].deleted is True


def test_other_customers_are_not_touched(stripe, record, work, projected):
    """WHK-13."""
    stripe.put({"id": "cus_2", "object": "customer"}, build_subscription("sub_2", customer="cus_2"))
    stripe.put(build_subscription())
    work(record(build_event(subject=build_subscription("sub_2", customer="cus_2"))))
    work(record(build_event()))
    assert (projected("cus_1"), projected("cus_2")) == ({"sub_1": "active"}, {"sub_2": "active"})


# --- batches and claims


def test_burst_of_twelve_events_costs_one_fetch(stripe, record, work, statuses):
    """WHK-14."""
    stripe.put(build_subscription())
    rows = [record(build_event()) for _ in range(12)]
    for row in rows:
        work(row)
    assert statuses() == ["done"] * 12
    assert stripe.calls == {"list_subscriptions": 1}


def test_very_many_events_of_one_customer_are_claimed_in_portions(stripe, record, work, statuses, database):
    """LED-2: ten thousand ids are more than a statement may carry."""
    stripe.put(build_subscription())
    row = record(build_event())
    copy_event(database, row, 1200)
    with database.write() as connection:
        assert len(claim(connection, now=NOON - LEASE).events) == 1000
    work()
    assert set(statuses()) == {"done"}
    assert stripe.calls == {"list_subscriptions": 2}


def copy_event(database, row_id, copies):
    """The same event again, under other ids."""
    with database.write() as connection:
        columns = [column for column in events.c if column.name not in ("id", "event_id")]
        one = connection.execute(sa.select(*columns).where(events.c.id == row_id)).one()._mapping
        connection.execute(sa.insert(events), [dict(one) | {"event_id": f"evt_copy_{n}"} for n in range(copies)])


def test_event_that_came_during_the_fetch_is_left_for_the_next(stripe, record, work, statuses):
    """LED-6: the fetch may be older than that event, so it must not be closed with it."""
    stripe.put(build_subscription())
    late = []
    stripe.before_arrival = lambda _name: late or late.append(record(build_event()))
    work(record(build_event()))
    assert statuses() == ["done", "done"]
    assert stripe.calls == {"list_subscriptions": 2}


def test_event_that_somebody_works_on_is_left_alone_until_the_lease_ends(
    database, stripe, record, work, statuses, clock
):
    """LED-2: the first worker was killed; the second one comes too early, then in time."""
    record(build_event())
    with database.write() as connection:
        assert claim(connection, now=clock.now()).events
    work()
    assert (statuses(), stripe.calls) == (["pending"], {})
    clock.advance(seconds=LEASE.total_seconds())
    work()
    assert statuses() == ["done"]


def test_second_worker_leaves_alone_what_the_first_one_is_fetching_for(stripe, record, work, statuses, clock):
    """LED-2: and so it is until the 25 s are over."""
    row, looked = record(build_event()), []

    def meanwhile(_name):
        if not looked:
            clock.advance(seconds=24)
            looked.append(work(row))

    stripe.before_arrival = meanwhile
    work(row)
    assert (statuses(), stripe.calls["list_subscriptions"]) == (["done"], 1)


def test_worker_that_lost_its_claim_closes_nothing(database, stripe, record, work, read, clock):
    """LED-2: it was frozen for longer than its lease; the events are its successor's now."""
    record(build_event())
    successor = []

    def lose(_name):
        clock.advance(seconds=LEASE.total_seconds())
        stripe.before_arrival = lambda name: None
        with database.write() as connection:
            successor.append(claim(connection, now=clock.now()).token)

    stripe.before_arrival = lose
    work()
    assert [(event.status, event.claim) for event in read(events)] == [("pending", *successor)]


def test_worker_that_lost_its_claim_and_failed_changes_nothing(database, stripe, record, work, read, clock):
    """LED-2."""
    record(build_event())
    successor = []

    def lose(_name):
        clock.advance(seconds=LEASE.total_seconds())
        with database.write() as connection:
            successor.append(claim(connection, now=clock.now()).token)
        raise REFUSED

    stripe.before_arrival = lose
    work()
    assert [(event.status, event.claim, event.error) for event in read(events)] == [("pending", *successor, None)]


def test_first_attempt_does_not_depend_on_the_workers_clock(stripe, record, work, statuses, clock):
    """LED-2, faults row 30: the worker's clock is two hours behind the web's."""
    row = record(build_event())
    clock.advance(hours=-2)
    work(row)
    assert statuses() == ["done"]


@pytest.mark.parametrize("what", ["claimed and died", "postponed"])
def test_nobody_waits_for_a_time_that_only_a_wrong_clock_set(database, stripe, record, work, statuses, clock, what):
    """WHK-88, faults row 30: a worker two hours ahead; no claim lasts for a minute, no postponement for two hours."""
    row = record(build_event())
    ahead = clock.now() + timedelta(hours=2)
    with database.write() as connection:
        batch = claim(connection, now=ahead)
        assert batch.ids == [row]
        if what == "postponed":
            until = ahead + timedelta(seconds=1)
            events_store.give_back(connection, [row], token=batch.token, error="no answer", until=until, failures=1)
    clock.advance(seconds=60)
    with database.read() as connection:
        assert any_due(connection, now=clock.now())
    work()
    assert statuses() == ["done"]


def test_wake_up_that_finds_nothing_due_does_nothing(work, stripe, queue):
    """LED-4: a forged or late message can at worst make a worker look."""
    work()
    assert (queue.sent, stripe.calls) == ([], {})


# --- old news never overwrites newer


def test_old_fetch_does_not_overwrite_a_newer_one(stripe, record, work, projected, read, database, clock):
    """LED-5: while the first answer was on its way, somebody else (reconciling, say) fetched and wrote a newer one."""
    stripe.put(build_subscription(status="incomplete"))
    first, late = record(build_event()), []

    def overtake(_name):
        if not late:
            late.append(True)
            stripe.put(build_subscription(status="active"))
            sync_customer("cus_1", database=database, stripe=stripe, clock=clock, catalog=CATALOG)

    stripe.before_arrival = overtake
    work(first)
    assert projected() == {"sub_1": "active"}
    assert read(projections)[0].generation == 2
    assert stripe.calls["list_subscriptions"] == 3  # mine, the other's, mine again
    assert [row.kind for row in read(outbox)] == ["subscription.activated"]


def test_worker_overtaken_every_time_gives_up_and_comes_back(stripe, record, work, database, read, queue):
    """LED-5, LED-7: bounded; it does not write what is old, and does not turn for ever."""
    stripe.put(build_subscription())
    row = record(build_event())

    def overtake(_name):
        with database.write() as connection:
            generation = projection_store.read_generation(connection, "cus_1")
            projection_store.advance(connection, "cus_1", generation=generation, deleted=None, now=NOON)

    stripe.before_arrival = overtake
    work(row)
    [event] = read(events)
    assert (event.status, event.claim, event.attempts) == ("pending", None, 1)
    assert read(outbox) == []


def test_events_stay_open_when_their_projection_is_not_written(stripe, record, work, statuses, read, monkeypatch):
    """LED-6: done before the projection commits would lose the change for good."""
    stripe.put(build_subscription())
    row = record(build_event())

    def crash(*_arguments, **_keywords):
        raise LedgerUnavailable("killed before the commit")

    monkeypatch.setattr("billing.subscriptions.sync.projection_store.note_duplicates", crash)
    with pytest.raises(LedgerUnavailable):
        work(row)
    assert (statuses(), read(projections), read(outbox)) == (["pending"], [], [])


def test_projection_is_not_written_when_its_events_cannot_be_closed(stripe, record, work, read, monkeypatch):
    """LED-6, SUB-4: one transaction, so that the retry notes the change and notes it once."""
    stripe.put(build_subscription())
    row = record(build_event())

    def crash(*_arguments, **_keywords):
        raise LedgerUnavailable("killed before the commit")

    monkeypatch.setattr("billing.webhooks.process.events_store.finish", crash)
    with pytest.raises(LedgerUnavailable):
        work(row)
    assert (read(projections), read(outbox)) == ([], [])


# --- changes


def test_each_change_is_noted_once(stripe, record, work, read):
    """SUB-4: with the user from our own table, and a message id of its own."""
    for subscription in (
        build_subscription(status="incomplete"),
        build_subscription(status="active"),
        build_subscription(status="active"),
        build_subscription(status="active", cancel_at_period_end=True),
        build_subscription(status="canceled"),
    ):
        stripe.put(subscription)
        work(record(build_event()))
    noted = read(outbox)
    kinds = ["subscription.created", "subscription.activated", "subscription.updated", "subscription.canceled"]
    assert [row.kind for row in noted] == kinds
    assert len({row.message_id for row in noted}) == 4
    assert noted[0].payload["subscription"]["status"] == "incomplete"
    assert noted[0].payload["user_id"] is None
    assert [row.payload["access"]["granted"] for row in noted] == [False, True, True, False]


def test_change_names_the_user_by_our_table_and_never_by_metadata(stripe, record, work, read, database):
    """SUB-9, faults row 61."""
    with database.write() as connection:
        mine = {"user_id": "user_1", "customer_id": "cus_1", "idempotency_key": "k", "parameters": {}}
        connection.execute(sa.insert(customers).values(mine | {"created_at": NOON}))
    stripe.put(build_subscription(metadata={"type": "kiloclaw", "user_id": "user_2"}))
    work(record(build_event()))
    assert read(outbox)[0].payload["user_id"] == "user_1"


def test_subscription_to_something_else_is_projected_but_no_news(stripe, record, work, projected, read):
    """SUB-2, SUB-4."""
    stripe.put(build_subscription(metadata={"type": "other"}, price="price_elsewhere"))
    work(record(build_event()))
    assert projected() == {"sub_1": "active"}
    assert read(outbox) == []


def test_past_due_since_is_kept_until_it_is_over(stripe, record, work, database, clock):
    """SUB-7."""
    seen = []
    for status in ("active", "past_due", "past_due", "active", "past_due"):
        stripe.put(build_subscription(status=status))
        work(record(build_event()))
        with database.read() as connection:
            seen.append(projection_store.read_subscriptions(connection, "cus_1")[0].past_due_since)
        clock.advance(days=1)
    assert seen == [None, NOON + timedelta(days=1), NOON + timedelta(days=1), None, NOON + timedelta(days=4)]


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


# --- failures


def test_failed_event_comes_back_later_and_later(stripe, record, work, read, queue, clock):
    """LED-7, faults row 31."""
    stripe.before_arrival = failing(StripeUnclear("Stripe gave no clear answer (status 503).", status=503))
    row = record(build_event())
    waits = []
    for _ in range(14):
        work(row)
        [event] = read(events)
        assert (event.status, event.claim, event.error) == (
            "pending",
            None,
            "Stripe gave no clear answer (status 503).",
        )
        waits.append((event.next_attempt_at - clock.now()).total_seconds())
        calls = stripe.calls.total()
        work(row)  # too early: nothing
        assert stripe.calls.total() == calls
        clock.time = event.next_attempt_at
    for attempt, wait in enumerate(waits):
        longest = min(2**attempt, 3600)
        assert longest / 2 <= wait <= longest
    stripe.before_arrival = failing(None, times=0)
    work(row)
    assert read(events)[0].status == "done"
    assert read(events)[0].error is None


def test_waits_are_scattered(stripe, record, work, read, clock):
    """LED-7: a hundred events that failed together do not come back together."""
    stripe.before_arrival = failing(StripeUnclear("busy", status=429))
    for number in range(20):
        work(record(build_event(subject=build_subscription(customer=f"cus_{number}"))))
    assert len({row.next_attempt_at for row in read(events)}) > 15


def test_retry_after_is_respected(stripe, record, work, read, clock):
    """LED-7."""
    stripe.before_arrival = failing(StripeUnclear("busy", status=429, retry_after=120))
    work(record(build_event()))
    assert read(events)[0].next_attempt_at >= clock.now() + timedelta(seconds=120)


def test_retry_after_without_measure_is_not_believed(stripe, record, work, read, clock):
    """LED-7: an hour is the longest wait."""
    stripe.before_arrival = failing(StripeUnclear("busy", status=429, retry_after=1e15))
    work(record(build_event()))
    assert read(events)[0].next_attempt_at == clock.now() + timedelta(hours=1)


@pytest.mark.parametrize(("retry_after", "sent"), [(None, [WorkEvents()]), (60, [])])
def test_short_wait_is_a_delayed_message_and_a_long_one_the_sweeps(stripe, record, work, queue, retry_after, sent):
    """LED-7."""
    stripe.before_arrival = failing(StripeUnclear("busy", retry_after=retry_after))
    record(build_event())
    queue.sent.clear()
    work()
    assert queue.sent == sent


def test_event_is_dead_after_twenty_attempts_and_keeps_its_error(stripe, record, work, read, clock):
    """LED-7, faults row 79."""
    stripe.before_arrival = failing(StripeUnclear("Stripe gave no clear answer (status 503).", status=503))
    row = record(build_event())
    for _ in range(MAX_FAILURES):
        assert read(events)[0].status == "pending"
        work(row)
        clock.advance(hours=1)
    [event] = read(events)
    assert (event.status, event.attempts) == ("dead", 20)
    assert event.error == "Stripe gave no clear answer (status 503)."
    assert event.payload
    assert event.finished_at


def test_event_that_kills_its_worker_every_time_is_dead_in_the_end(database, record, work, read, clock):
    """LED-7: nothing was noted but the claims."""
    row = record(build_event())
    for _ in range(MAX_FAILURES):
        with database.write() as connection:
            assert claim(connection, now=clock.now()).ids == [row]
        clock.advance(seconds=LEASE.total_seconds())
    work()
    assert [(event.status, event.error) for event in read(events)] == [
        ("dead", "Given up after 20 attempts that never came to an end.")
    ]


def test_event_that_stripe_put_off_for_want_of_budget_is_never_buried(stripe, record, work, read, clock):
    """WHK-95, faults row 31: a hundred times, a few scattered seconds each; what failed before counts as it did."""
    record(build_event())
    stripe.before_arrival = failing(StripeUnclear("no answer", status=503))
    for _ in range(MAX_FAILURES - 1):
        work()
        clock.advance(hours=1)
    stripe.before_arrival = failing(StripeBusy("Slow down.", status=429))
    for _ in range(100):
        work()
        [event] = read(events)
        assert (event.status, event.attempts) == ("pending", MAX_FAILURES - 1)
        wait = (event.next_attempt_at - clock.now()).total_seconds()
        assert 2.5 <= wait <= 5
        clock.advance(seconds=wait)
    stripe.before_arrival = failing(StripeUnclear("no answer", status=503))
    work()
    assert [(event.status, event.attempts) for event in read(events)] == [("dead", MAX_FAILURES)]


@pytest.mark.parametrize(("renews_after", "left"), [(0.0, ["done"]), (60.0, ["pending"])])
def test_worker_that_gets_on_keeps_its_events(
    database, stripe, record, work, statuses, clock, monkeypatch, renews_after, left
):
    """WHK-94: each request renews the lease, where it was not renewed just now."""
    monkeypatch.setattr("billing.webhooks.process.RENEW_SECONDS", renews_after)
    subscription = build_subscription(schedule="sub_sched_1")
    stripe.put(subscription, {"id": "sub_sched_1", "object": "subscription_schedule", "phases": []})
    record(build_event())
    found = []

    def take_time(_name):
        clock.advance(seconds=24)
        with database.write() as connection:
            found.extend(claim(connection, now=clock.now()).events)

    stripe.before_arrival = take_time
    work()
    assert stripe.calls == {"list_subscriptions": 1, "get_schedule": 1}
    assert statuses() == left
    assert bool(found) is (left == ["pending"])


def test_what_stripe_refuses_for_good_is_dead_at_once(stripe, record, work, read):
    """LED-7."""
    stripe.before_arrival = failing(REFUSED)
    work(record(build_event()))
    assert [(event.status, event.attempts, event.error) for event in read(events)] == [("dead", 1, "no")]


def test_refused_key_kills_no_event(stripe, record, work, read):
    """LED-7: the operator mends the key, and what waited is worked."""
    stripe.before_arrival = failing(StripeMisconfigured("Stripe does not accept this API key."))
    work(record(build_event()))
    assert [event.status for event in read(events)] == ["pending"]


def test_bug_is_told_and_the_event_waits(stripe, record, work, read):
    """LED-7: its error names the kind only; a message could hold anything."""
    stripe.before_arrival = failing(ZeroDivisionError("whsec_secret in a message"))
    with pytest.raises(ZeroDivisionError):
        work(record(build_event()))
    assert [(event.status, event.error) for event in read(events)] == [("pending", "ZeroDivisionError")]


def test_poison_does_not_keep_others_waiting(stripe, record, work, read, projected, queue):
    """LED-11, faults row 79."""
    stripe.put({"id": "cus_2", "object": "customer"}, build_subscription("sub_2", customer="cus_2"))
    record(build_event())
    record(build_event(subject=build_subscription("sub_2", customer="cus_2")))
    stripe.before_arrival = failing(ZeroDivisionError(), times=1)
    queue.sent.clear()
    with pytest.raises(ZeroDivisionError):
        work()
    assert queue.sent == [WorkEvents()]
    work()
    assert [event.status for event in read(events)] == ["pending", "done"]
    assert projected("cus_2") == {"sub_2": "active"}


# --- duplicates


def test_second_live_subscription_is_one_incident_until_it_is_gone(stripe, record, work, read, database):
    """SUB-8, faults row 45."""
    stripe.put(build_subscription(), build_subscription("sub_2", status="incomplete"))
    for _ in range(3):
        work(record(build_event()))
    [incident] = read(incidents)
    assert (incident.kind, incident.customer_id, incident.product) == ("duplicate_subscription", "cus_1", "kiloclaw")
    assert incident.detail == {"subscriptions": ["sub_1", "sub_2"]}
    with database.read() as connection:
        assert projection_store.count_open_incidents(connection) == 1
    stripe.put(build_subscription("sub_3", status="paused"))
    work(record(build_event()))
    assert [row.detail["subscriptions"] for row in read(incidents)] == [["sub_1", "sub_2", "sub_3"]]
    stripe.put(build_subscription("sub_2", status="incomplete_expired"), build_subscription("sub_3", status="canceled"))
    work(record(build_event()))
    assert [row.resolved_at is not None for row in read(incidents)] == [True]
    stripe.put(build_subscription("sub_3", status="active"))
    work(record(build_event()))
    assert [row.resolved_at is not None for row in read(incidents)] == [True, False]
    with database.read() as connection:
        assert projection_store.count_open_incidents(connection) == 1


def test_subscriptions_to_other_products_are_no_duplicates(stripe, record, work, read):
    """SUB-2, SUB-8."""
    stripe.put(build_subscription(), build_subscription("sub_2", metadata={"type": "x"}, price="price_elsewhere"))
    work(record(build_event()))
    assert read(incidents) == []


# --- gauges


def test_gauges_count_what_waits_and_what_is_dead(stripe, record, work, database, clock):
    """LED-7: what is shown."""
    with database.read() as connection:
        assert events_store.oldest_pending_age_seconds(connection, clock.now()) == 0
    stripe.before_arrival = failing(REFUSED)
    work(record(build_event(subject=build_subscription(customer="cus_2"))))
    record(build_event())
    clock.advance(seconds=90)
    with database.read() as connection:
        assert events_store.count_pending(connection) == 1
        assert events_store.count_dead(connection) == 1
        assert events_store.oldest_pending_age_seconds(connection, clock.now()) == 90
