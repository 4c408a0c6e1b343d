"""What the web's role may change in the ledger, as `deploy/postgres/grants.sql` gives it.

A test compares this with the grants of a real PostgreSQL. In the tests of the web, which run on SQLite, each statement
of a request is held against it.
"""

import re
from typing import Any

import sqlalchemy as sa
from flask import has_request_context

from billing.database import Database

READ = {"installation", "projections", "repayments", "subscriptions"}
INSERTED = {"product_trials"}  # and not changed
COLUMNS = {"remedies": {"state", "finished_at"}}  # changed, and nothing else of these tables
DELETED = {"console_sessions", "minute_counts", "processes"}

_WRITE = re.compile(r"\s*(?:(INSERT) INTO|(UPDATE)|(DELETE) FROM) (\w+)")
_SET = re.compile(r"\bSET (.+?)(?: WHERE | RETURNING |$)", re.DOTALL)


def rights(table: str) -> set[str]:
    """What the web may do with whole rows of a table."""
    if table in READ or table in COLUMNS:
        return set()
    return {"INSERT"} | ({"UPDATE"} if table not in INSERTED else set()) | ({"DELETE"} if table in DELETED else set())


def hold_requests_to_rights(database: Database) -> None:
    """Fail what the web's role would be refused. Whoever works beside a request is no part of it."""

    def check(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        found = _WRITE.match(statement)
        if not found or not has_request_context():
            return
        verb, table = found[1] or found[2] or found[3], found[4]
        if verb == "UPDATE" and table in COLUMNS:
            assert set(re.findall(r"(\w+)=", _SET.search(statement)[1])) <= COLUMNS[table], statement  # type: ignore[index]
            return
        wanted = {verb} | ({"UPDATE"} if "DO UPDATE" in statement else set())
        assert wanted <= rights(table), f"the web's role may not: {statement}"

    sa.event.listen(database.engine, "before_cursor_execute", check)
