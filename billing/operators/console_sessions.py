"""Logins to the console: rows of the ledger, so that logging out holds for every web, and no restart brings one back.

A row's id is made of the token in the browser's cookie and of a key that is derived from the password. So another
password ends every session, and who reads the ledger cannot log in.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database
from billing.models import console_sessions

LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Session:
    """Who is logged in, and the key of the password that they gave."""

    who: str
    key: bytes


def begin_session(who: str, key: bytes, *, database: Database, clock: Clock) -> str:
    """Note a login; the token for the browser's cookie. Sessions that are over go. Raises LedgerUnavailable."""
    token, now = secrets.token_urlsafe(32), clock.now()
    values = {"id": _id(token, key), "who": who[:255], "began_at": now, "ends_at": now + LIFETIME}
    with database.write() as connection:
        connection.execute(sa.delete(console_sessions).where(console_sessions.c.ends_at <= now))
        connection.execute(sa.insert(console_sessions).values(values))
    return token


def read_session(token: str, keys: Sequence[bytes], *, database: Database, clock: Clock) -> Session | None:
    """The session of this token that a password of one of these keys began; None without one, or once it is over."""
    by_id = {_id(token, key): key for key in keys}
    query = sa.select(console_sessions.c.id, console_sessions.c.who, console_sessions.c.ends_at)
    with database.read() as connection:
        row = connection.execute(query.where(console_sessions.c.id.in_(by_id))).first()
    return Session(row.who, by_id[row.id]) if row and clock.now() < row.ends_at else None


def end_session(token: str, keys: Sequence[bytes], *, database: Database) -> None:
    """Log out: nobody is let in by this token again. Raises LedgerUnavailable."""
    ids = [_id(token, key) for key in keys]
    with database.write() as connection:
        connection.execute(sa.delete(console_sessions).where(console_sessions.c.id.in_(ids)))


def _id(token: str, key: bytes) -> str:
    return hmac.new(key, token.encode(), hashlib.sha256).hexdigest()
