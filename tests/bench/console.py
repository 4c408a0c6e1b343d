"""How long each page of the console takes, with a million events and a hundred thousand customers, on both databases.

In this process, without the network: what is measured is the ledger's part and the page's own. Slower than 200 ms is
marked.
"""

import logging
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa
import structlog
from flask import Flask

from app import create_app
from billing.clock import SystemClock
from billing.coordination.locks import LocalLocks
from billing.coordination.queue import InlineQueue
from billing.coordination.wakeups import LocalWakeups
from billing.database import Database
from billing.process.settings import load_settings
from billing.services import Services
from tests.bench.growth import fill
from tests.bench.load import a_body
from tests.bench.serving import POSTGRESQL, SQLITE
from tests.support.builders import CATALOG
from tests.support.databases import running_postgres, sqlite_in

EVENTS, CUSTOMERS = 1_000_000, 100_000
KINDS = (SQLITE, POSTGRESQL)
ROUNDS = 7
DAYS = 30  # over which the events came
MOST_SECONDS = 0.2
PASSWORD = "a-password-of-the-bench"
SOMEBODY = 4711  # of the users; each has a checkout, a subscription and twelve events
_EXTRA = (
    f"/console/customer?user=user_{SOMEBODY}",
    "/console/find?q=user_4712",
    "/console/find?q=sub_4713",
    "/console/find?q=cs_4714",
    "/console/find?q=nobody",
    "/console/events?since=all&type=invoice.*",
    "/console/events?type=nothing.*",
    f"/console/events?since=all&customer=cus_old_{SOMEBODY}",
    "/console/events?customer=cus_old_47*",
    "/console/events/replay?since=24h",
    "/console/events/replay?since=all&status=dead",
    "/console/notifications?since=all&status=dead",
    "/console/charts?span=day",
)


def main(events: int = EVENTS, customers: int = CUSTOMERS) -> None:
    """Print a row for each page."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows = {kind: measure(kind, events, customers) for kind in KINDS}
    print(f"| {events:,} events, {customers:,} customers | {' | '.join(KINDS)} |")
    print(f"| --- | {' | '.join('---:' for _ in KINDS)} |")
    for path in next(iter(rows.values())):
        times = (rows[kind][path] for kind in KINDS)
        cells = (f"{seconds * 1000:.0f} ms{' (!)' if seconds > MOST_SECONDS else ''}" for seconds in times)
        print(f"| `{path}` | {' | '.join(cells)} |")


def measure(kind: str, events: int, customers: int) -> dict[str, float]:
    """The median time of each page, in seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if kind == POSTGRESQL:
            ledger = stack.enter_context(stack.enter_context(running_postgres(durable=True)).fresh())
        else:
            ledger = stack.enter_context(sqlite_in(folder))
        people(ledger, customers)
        fill(ledger, events, payload=a_body(b"0", b"0"), days=DAYS)
        _analyze(ledger)
        return dict(_times(_application(ledger)))


def people(ledger: Database, count: int) -> None:
    """Users who bought once, whose customers are those of `fill`; some wait, some were given up."""
    if ledger.is_sqlite:
        now = "datetime('now')"
        numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count)"
    else:
        now, numbers = "now()", "WITH n(n) AS (SELECT generate_series(1, CAST(:count AS int)))"
    user, customer, nonce, session, checkout = (f"'{name}_' || n" for name in ("user", "cus_old", "n", "cs", "chk"))
    of_customer, product = {"customer_id": customer}, f"'{CATALOG.product}'"
    tables: dict[str, dict[str, str]] = {
        "customers": {"user_id": user, **of_customer, "idempotency_key": nonce, "parameters": "'{}'",
                      "created_at": now},
        "lanes": {"id": "n", "user_id": user, "product": product, "state": "'open'", "nonce": nonce,
                  "session_id": session},
        "attempts": {"nonce": nonce, "lane_id": "n", "checkout_id": checkout, "idempotency_key": nonce,
                     "parameters": "'{}'", "fingerprint": "'f'", "session_id": session, "outcome": "'completed'",
                     "created_at": now, "expires_at": now},
        "checkouts": {"id": checkout, "lane_id": "n", "user_id": user, "number": "1", "plan": "'standard'",
                      "price_id": "'price_1'", "request": "'{}'", "fingerprint": "'f'", "nonce": nonce,
                      "status": "CASE WHEN n % 1000 = 0 THEN 'pending' ELSE 'open' END", "body_hash": "'h'",
                      "arrived_at": now, "answered_at": now},
        "projections": {**of_customer, "generation": "1", "synced_at": now},
        "subscriptions": {"subscription_id": "'sub_' || n", **of_customer, "product": product, "plan": "'standard'",
                          "price_id": "'price_1'", "quantity": "1", "status": "'active'", "created_at": now},
        "outbox": {"message_id": "'msg_' || n", **of_customer, "kind": "'subscription.activated'", "payload": "'{}'",
                   "status": "CASE n % 500 WHEN 0 THEN 'pending' WHEN 1 THEN 'dead' ELSE 'delivered' END",
                   "created_at": now, "next_attempt_at": now},
    }  # fmt: skip
    for name, values in tables.items():
        insert = f"INSERT INTO {name} ({', '.join(values)}) {numbers} SELECT {', '.join(values.values())} FROM n"
        with ledger.write() as connection:
            ledger.allow(connection, None)  # 100,000 rows at once take longer than a statement of ours may
            connection.execute(sa.text(insert), {"count": count})


def _analyze(ledger: Database) -> None:
    with ledger.write() as connection:
        ledger.allow(connection, None)
        connection.execute(sa.text("UPDATE events SET status = 'dead', error = 'gone' WHERE id % 2000 = 0"))
        connection.execute(sa.text("UPDATE events SET status = 'pending' WHERE id % 500 = 1"))
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if ledger.is_sqlite else "VACUUM ANALYZE")


def _application(ledger: Database) -> Flask:
    settings = load_settings(
        auth_jwt_secret="0123456789abcdef" * 2, console_password=PASSWORD, rate_limit_addresses="1000000/minute"
    )
    services = Services(
        settings=settings,
        catalog=CATALOG,
        database=ledger,
        queue=InlineQueue(),
        wakeups=LocalWakeups(),
        locks=LocalLocks(),
        stripe=None,
        clock=SystemClock(),
    )
    return create_app(settings, services)


def _times(app: Flask) -> Iterator[tuple[str, float]]:
    client = app.test_client()
    form = re.search(r'name="form_token" value="(\w+)"', client.get("/console/login").get_data(as_text=True))
    assert form
    client.post("/console/login", data={"form_token": form[1], "password": PASSWORD})
    pages = sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/console") and "GET" in (rule.methods or ()) and not rule.arguments
    )
    for path in [*(path for path in pages if path not in ("/console/login", "/console/customer")), *_EXTRA]:
        seconds = []
        for _ in range(ROUNDS):
            began = time.monotonic()
            status = client.get(path).status_code
            seconds.append(time.monotonic() - began)
            assert status in (200, 303, 404, 422), (path, status)
        yield path, statistics.median(seconds)
