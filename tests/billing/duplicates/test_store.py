"""The rows of remedies and of incidents about duplicates, on both databases, beside another customer's.

`cus_1` has an incident (1) and a remedy; `cus_2` has the same (2), and so has `cus_1` for another product (3). Whatever
is done to the first one leaves the others alone.
"""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.duplicates import store
from billing.models import RemedyState, incidents, projections, remedies, subscriptions
from billing.subscriptions.projection_store import count_open_incidents, note_troubles, resolve_if_over, update_open
from billing.subscriptions.troubles import DUPLICATE, NOT_SOLD, Trouble
from tests.support.builders import NOON

NOW, SOON = NOON + timedelta(hours=1), NOON + timedelta(hours=1, seconds=5)
ABOUT = {"customer_id": "cus_1", "product": "kiloclaw"}
OTHERS = [{"customer_id": "cus_2", "product": "kiloclaw"}, {"customer_id": "cus_1", "product": "another"}]
STATES = [state.value for state in RemedyState]
Row = dict[str, Any]


def incident(number: int = 1, kind: str = DUPLICATE, **instead: Any) -> Row:
    """The incident of that number; the first is the customer's whom the tests are about."""
    about = [ABOUT, *OTHERS][min(number, 3) - 1]
    return {"id": number, "kind": kind, "detail": {}, "opened_at": NOON, **about, **instead}


def remedy(number: int = 1, state: str = "canceled", **instead: Any) -> Row:
    """The remedy of the incident of that number."""
    about = [ABOUT, *OTHERS][min(number, 3) - 1]
    made = {"id": number, "incident_id": number, "subscription_id": f"sub_{number}", "kept_id": f"sub_kept_{number}"}
    made |= {"nonce": f"nonce_{number}", "refund_key": f"key_{number}", "created_at": NOON}
    return {**made, **about, "state": state, **instead}


def put(connection: sa.Connection, *rows: Row) -> None:
    """These are there: incidents have a kind."""
    for row in rows:
        connection.execute(sa.insert(incidents if "kind" in row else remedies).values(row))
    if connection.dialect.name == "postgresql":  # it numbers by itself, whatever is there
        for table in ("incidents", "remedies"):
            connection.execute(sa.text("SELECT setval(pg_get_serial_sequence(:name, 'id'), 99)"), {"name": table})


def live(connection: sa.Connection, number: int, status: str = "active", **about: str) -> None:
    """A subscription as last fetched."""
    about = {**ABOUT, **about}
    known = sa.select(projections.c.customer_id).where(projections.c.customer_id == about["customer_id"])
    if connection.execute(known).first() is None:
        connection.execute(sa.insert(projections).values(customer_id=about["customer_id"]))
    row = {"subscription_id": f"sub_{number}", "status": status, "created_at": NOON, **about}
    connection.execute(sa.insert(subscriptions).values(row))


def read(connection: sa.Connection, number: int = 1) -> store.Incident:
    """An incident, as its remedy has it."""
    found = store.read_incident(connection, number)
    assert found is not None
    return found


def is_open(connection: sa.Connection) -> dict[int, bool]:
    """Of every incident."""
    rows = connection.execute(sa.select(incidents.c.id, incidents.c.resolved_at))
    return {id_: resolved is None for id_, resolved in rows}


# --- what is found


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("noticed", [True, False])
def test_remedy_is_found_while_something_is_to_be_done_about_it(database: Database, state: str, noticed: bool) -> None:
    """SUB-20, SUB-111: an event about money asks for another look, where money was given back or may have to be."""
    with database.write() as connection:
        put(connection, *map(incident, (1, 2, 3)), remedy(1, state, notices=int(noticed)))
        put(connection, remedy(2, "dropped"), remedy(3, "dropped"))
        asked_again = noticed and state in ("canceled", "refunded", "nothing_to_refund")
        begun = state in ("planned", "canceled") or asked_again
        owed = state == "canceled" or asked_again
        first = read(connection)
        assert [store.has_unfinished(connection, read(connection, number)) for number in (1, 2, 3)] == [
            begun,
            False,
            False,
        ]
        assert [one.id for one in store.find_owed(connection, first)] == ([1] if owed else [])
        planned = store.find_planned(connection, first)
        assert (planned and planned.id) == (1 if state == "planned" else None)
        assert store.find_kept(connection, first) == {"sub_kept_1"}
        assert list(store.due(connection, now=NOW, limit=5, open_ones=False)) == ([1] if begun else [])


@pytest.mark.parametrize(
    ("rows", "with_open", "without"),
    [
        ([incident()], [1], []),
        ([incident(resolved_at=NOON)], [], []),
        ([incident(chosen={"keep": "sub_1", "cancel": ["sub_2"]})], [1], [1]),  # a person's wish
        ([incident(chosen={"keep": "sub_1", "cancel": ["sub_2"]}, resolved_at=NOON)], [], []),
        ([incident(resolved_at=NOON), remedy()], [1], [1]),
        ([incident(), remedy(1, "refunded")], [1], []),
        ([incident(kind=NOT_SOLD)], [], []),
        ([incident(next_attempt_at=NOW), remedy()], [1], [1]),
        ([incident(next_attempt_at=SOON), remedy()], [], []),
        ([incident(next_attempt_at=NOW + timedelta(hours=2)), remedy()], [1], [1]),  # of a clock that is ahead
        ([incident(3), incident(1), incident(2)], [1, 2], []),  # so many at once
    ],
)
def test_incidents_are_due_by_their_remedies_and_wishes(
    database: Database, rows: list[Row], with_open: list[int], without: list[int]
) -> None:
    """SUB-16, SUB-20, SUB-130"""
    with database.write() as connection:
        put(connection, *rows)
        assert list(store.due(connection, now=NOW, limit=2, open_ones=True)) == with_open
        assert list(store.due(connection, now=NOW, limit=2, open_ones=False)) == without


# --- what is changed


@pytest.mark.parametrize(
    ("before", "planned"),
    [
        ([], True),
        ([remedy(1, "planned")], False),  # one at a time
        ([remedy(1, "refunded")], True),
        ([remedy(1, "dropped", kept_id="sub_9")], False),  # it was to stay before
        ([remedy(2, "planned")], True),
        ([remedy(2, "dropped", kept_id="sub_9")], True),
        ([remedy(3, "dropped", kept_id="sub_9")], True),
    ],
)
def test_cancellation_is_planned_where_no_other_can_cross_it(
    database: Database, before: list[Row], planned: bool
) -> None:
    """SUB-18"""
    values = {name: value for name, value in remedy(9, subscription_id="sub_9").items() if name not in ("id", "state")}
    with database.write() as connection:
        put(connection, *map(incident, (1, 2, 3)), *before)
        assert store.plan(connection, {**values, "incident_id": 1, **ABOUT}) is planned
        left = connection.scalars(sa.select(remedies.c.nonce).order_by(remedies.c.id)).all()
        assert left == [*(row["nonce"] for row in before), *(["nonce_9"] if planned else [])]


@pytest.mark.parametrize("state", ["refunded", "nothing_to_refund", "canceled", "dropped"])
def test_settled_remedy_ends_its_incident_once_nothing_is_owed(database: Database, state: str) -> None:
    """SUB-110, SUB-114: by who read it last; a refund that failed opens it again."""
    owes = state == "canceled"
    with database.write() as connection:
        put(connection, *(incident(number, resolved_at=NOON if owes else None) for number in (1, 2, 3)))
        put(connection, remedy(1, "refunded" if owes else "canceled", notices=3), remedy(2), remedy(3))
        [found] = store.find_owed(connection, read(connection))
        why = "900 is not back" if owes else None
        outcomes = [store.settle(connection, found, RemedyState(state), now=NOW, reason=why) for _ in range(2)]
        assert outcomes == [True, False]
        rows = connection.execute(sa.select(remedies).order_by(remedies.c.id)).all()
        assert [(row.state, row.error, row.noticed, row.finished_at) for row in rows] == [
            (state, why, 3, None if owes else NOW),
            ("canceled", None, 0, None),
            ("canceled", None, 0, None),
        ]
        assert is_open(connection) == {1: owes, 2: not owes, 3: not owes}


def test_key_that_was_renewed_is_not_settled_by_the_one_before(database: Database) -> None:
    """SUB-20"""
    with database.write() as connection:
        put(connection, incident(), remedy())
        [found] = store.find_owed(connection, read(connection))
        connection.execute(sa.update(remedies).values(refund_key="another"))
        assert store.settle(connection, found, RemedyState.REFUNDED, now=NOW) is False


@pytest.mark.parametrize(("number", "again"), [(4, False), (5, True)])
def test_incident_is_opened_again_unless_there_is_an_open_one(database: Database, number: int, again: bool) -> None:
    """SUB-114: of this customer, product and kind."""
    another = incident(4, **ABOUT) if number == 4 else incident(5, kind=NOT_SOLD, **ABOUT)
    with database.write() as connection:
        put(connection, incident(resolved_at=NOON), incident(2), incident(3), another, remedy(1, "refunded", notices=1))
        [found] = store.find_owed(connection, read(connection))
        assert store.settle(connection, found, RemedyState.CANCELED, now=NOW, reason="failed")
        assert is_open(connection)[1] is again


@pytest.mark.parametrize("state", STATES)
def test_event_about_money_is_noted_where_money_was_given_back(database: Database, state: str) -> None:
    """SUB-111, SUB-118: of this customer, whatever the product."""
    counts = state in ("canceled", "refunded", "nothing_to_refund")
    with database.write() as connection:
        put(connection, *map(incident, (1, 2, 3)), remedy(1, state), remedy(2), remedy(3))
        put(connection, remedy(4, "refunded", incident_id=1, **ABOUT))
        assert list(store.note_money_event(connection, "cus_1")) == [1, 3]
        notices = dict(connection.execute(sa.select(remedies.c.id, remedies.c.notices)).all())  # type: ignore[arg-type]
        assert notices == {1: int(counts), 2: 0, 3: 1, 4: 1}


def test_only_an_incident_about_duplicates_has_remedies(database: Database) -> None:
    """SUB-8"""
    with database.write() as connection:
        put(connection, incident(1), incident(4, kind=NOT_SOLD, **ABOUT))
        assert [store.read_incident(connection, number) for number in (4, 9)] == [None, None]
        assert read(connection).customer_id == "cus_1"


def test_incident_is_put_off_and_says_why_where_it_is_open(database: Database) -> None:
    """SUB-21: the customer's open one may be a later one."""
    with database.write() as connection:
        put(connection, incident(resolved_at=NOON, reason="before"), incident(2), incident(3), incident(4, **ABOUT))
        store.put_off(connection, read(connection), failures=3, until=SOON, reason="Stripe is away.")
        rows = connection.execute(sa.select(incidents).order_by(incidents.c.id)).all()
        assert [(row.failures, row.next_attempt_at, row.reason) for row in rows] == [
            (3, SOON, "before"),
            (0, None, None),
            (0, None, None),
            (0, None, "Stripe is away."),
        ]


# --- whether it is over


@pytest.mark.parametrize(
    ("others", "owed", "over"),
    [
        ([], [], True),
        ([("canceled", {})], [], True),
        ([("incomplete_expired", {})], [], True),
        ([("active", {})], [], False),
        ([("past_due", {})], [], False),
        ([("active", OTHERS[0])], [], True),
        ([("active", OTHERS[1])], [], True),
        ([], [remedy(1, "canceled")], False),
        ([], [remedy(1, "planned")], False),
        ([], [remedy(1, "refunded")], True),
        ([], [remedy(1, "by_person")], True),
        ([], [remedy(2, "canceled"), remedy(3, "planned")], True),
        ([("active", {})], [remedy(1, "canceled")], False),
    ],
)
def test_incident_is_over_once_one_is_live_and_the_money_is_back(
    database: Database, others: list[tuple[str, Any]], owed: list[Row], over: bool
) -> None:
    """SUB-8, SUB-110: and no other incident is."""
    with database.write() as connection:
        put(connection, *map(incident, (1, 2, 3)), incident(4, kind=NOT_SOLD, **ABOUT), *owed)
        live(connection, 1)
        for number, (status, about) in enumerate(others, 2):
            live(connection, number, status, **about)
        assert resolve_if_over(connection, **ABOUT, now=NOW) == (None if over else 1)
        assert is_open(connection) == {1: not over, 2: True, 3: True, 4: True}


def test_each_trouble_is_one_open_incident_while_it_lasts(database: Database) -> None:
    """SUB-8, SUB-74, SUB-75: found anew it is kept up to date, and it is over for this customer alone."""
    both = [Trouble(DUPLICATE, ("sub_1", "sub_2")), Trouble(NOT_SOLD, ("sub_2",), "Name the price.")]
    with database.write() as connection:
        put(connection, incident(2), incident(3))
        live(connection, 1), live(connection, 2)
        ids, opened = note_troubles(connection, both, **ABOUT, now=NOW)
        assert (set(ids), list(opened)) == ({DUPLICATE, NOT_SOLD}, both)
        connection.execute(update_open(DUPLICATE, **ABOUT).values(reason="A person decides."))
        again, none = note_troubles(connection, [Trouble(DUPLICATE, ("sub_2", "sub_3"))], **ABOUT, now=NOW)
        assert (again, list(none)) == ({DUPLICATE: ids[DUPLICATE]}, [])
        row = connection.execute(sa.select(incidents).where(incidents.c.id == ids[DUPLICATE])).one()
        assert (row.detail, row.reason) == ({"subscriptions": ["sub_2", "sub_3"]}, "A person decides.")
        assert is_open(connection) == {2: True, 3: True, ids[DUPLICATE]: True, ids[NOT_SOLD]: False}
        assert count_open_incidents(connection) == 3
        connection.execute(
            sa.update(subscriptions).where(subscriptions.c.subscription_id == "sub_2").values(status="canceled")
        )
        assert note_troubles(connection, [], **ABOUT, now=NOW) == ({}, [])
        assert is_open(connection)[ids[DUPLICATE]] is False
