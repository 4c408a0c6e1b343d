"""Logins to the console as rows of the ledger, on both databases."""

from datetime import timedelta

import sqlalchemy as sa

from billing.database import Database
from billing.models import console_sessions
from billing.operators.audit import audited, read_audit
from billing.operators.console_sessions import LIFETIME, Session, begin_session, end_session, read_session
from tests.support.builders import NOON, MovableClock

KEY, OTHER = b"k" * 32, b"o" * 32


def test_session_is_known_by_its_token_and_the_key_of_its_password(database: Database) -> None:
    """CON-6"""
    clock = MovableClock(NOON)
    token = begin_session("ann", KEY, database=database, clock=clock)
    assert read_session(token, [OTHER, KEY], database=database, clock=clock) == Session("ann", KEY)
    assert read_session(token, [OTHER], database=database, clock=clock) is None
    assert read_session(token + "x", [KEY], database=database, clock=clock) is None
    assert read_session(token, [], database=database, clock=clock) is None


def test_session_ends_after_twelve_hours_and_goes_with_the_next_login(database: Database) -> None:
    """CON-6"""
    clock = MovableClock(NOON)
    token = begin_session("ann", KEY, database=database, clock=clock)
    clock.advance(seconds=(LIFETIME - timedelta(seconds=1)).total_seconds())
    assert read_session(token, [KEY], database=database, clock=clock)
    clock.advance(seconds=1)
    assert read_session(token, [KEY], database=database, clock=clock) is None

    begin_session("bob", KEY, database=database, clock=clock)

    with database.read() as connection:
        assert list(connection.scalars(sa.select(console_sessions.c.who))) == ["bob"]


def test_one_who_logs_out_ends_no_other_session(database: Database) -> None:
    """CON-6"""
    clock = MovableClock(NOON)
    tokens = [begin_session(who, KEY, database=database, clock=clock) for who in ("ann", "bob")]
    end_session(tokens[0], [OTHER, KEY], database=database)
    found = [read_session(token, [KEY], database=database, clock=clock) for token in tokens]
    assert found == [None, Session("bob", KEY)]


def test_row_of_the_audit_log_names_who_pressed_and_is_read_again(database: Database) -> None:
    """CON-9"""
    noted = audited("a", target="b", reason="c", who="ann from 192.0.2.1", database=database, clock=MovableClock(NOON))
    with noted as note:
        note("two made due")
    row = read_audit(note.row_id, database=database)
    assert row
    assert (row["who"], row["outcome"]) == ("ann from 192.0.2.1", "two made due")
    assert read_audit(note.row_id + 1, database=database) is None
