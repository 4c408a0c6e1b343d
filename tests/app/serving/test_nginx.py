"""The web behind a real nginx: no delivery meets a connection that is being closed, and it knows who asks and where."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.kills.asking import answers
from tests.kills.proxy import Proxy
from tests.support.builders import SECRET, build_event, deliver
from tests.support.databases import sqlite_in
from tests.support.nginx import nginx
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment
from tests.support.valkey import wait_until
from tests.support.web import JWT_SECRET, ORIGIN, token

PREFIX = "/shop"
IDLE_SECONDS, LONGER = 2, 4
NGINX_DEFAULT = 60  # keepalive_timeout of an upstream, as most other proxies have it


@contextmanager
def proxied(folder: Path, **settings: str) -> Iterator[tuple[int, Proxy]]:
    """The port of an nginx that keeps idle connections for IDLE_SECONDS, before `onelane web`; and what is between."""
    port = own_port()
    between = Proxy(port)
    with sqlite_in(folder) as ledger:
        url = str(ledger.url)
    given = {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "PORT": str(port),
        "CATALOG": str(ROOT / "catalog.toml"),
        "AUTH_JWT_SECRET": JWT_SECRET,
        "STRIPE_WEBHOOK_SECRETS": SECRET,
        "REDIRECT_ORIGINS": ORIGIN,
        "CHECKOUT_WAIT_SECONDS": "0",
        "TRUSTED_PROXIES": "1",
        **settings,
    }
    with nginx(folder / "nginx", web=between.port, prefix=PREFIX, idle_seconds=IDLE_SECONDS) as front:
        with (folder / "log").open("wb") as log:
            command = launched([sys.executable, "-P", "-m", "onelane", "web"])
            process = subprocess.Popen(command, cwd=folder, env=environment(**given), stdout=log, stderr=log)
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), "the web answers", 60)
            yield front, between
        finally:
            process.terminate()
            process.wait(60)
            between.close()


def ask(
    port: int, method: str, path: str, body: bytes = b"", *, source: str = "127.0.0.1", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request from an address of this machine: its status, headers and body."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(source, 0))
    client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = client.getresponse()
    found = answer.status, answer.headers, answer.read()
    client.close()
    return found


def deliver_one(port: int) -> int:
    body, signature = deliver(build_event(), at=datetime.now(UTC))
    return ask(port, "POST", f"{PREFIX}/webhooks/stripe", body, Stripe_Signature=signature)[0]


def test_delivery_never_meets_a_connection_that_is_being_closed(tmp_path: Path) -> None:
    """API-73, fault 131: the proxy gives idle ones up first; else it answers 502 to what came at that moment."""
    assert Settings.model_fields["keep_alive_seconds"].default > NGINX_DEFAULT
    with proxied(tmp_path, KEEP_ALIVE_SECONDS=str(LONGER)) as (port, between), ThreadPoolExecutor(20) as senders:
        assert set(senders.map(lambda _: deliver_one(port), range(40))) == {200}
        wait_until(lambda: len(between.ended_by) > 0, "nginx gives up what is idle")
        wait_until(lambda: deliver_one(port) == 200, "it makes new ones")
        assert set(between.ended_by) == {"client"}


def test_who_asks_and_where_is_what_the_proxy_says(tmp_path: Path) -> None:
    """API-39, API-100, API-101; faults 104 and 105: by the headers that nginx writes, and not by a stranger's."""
    with proxied(tmp_path, RATE_LIMIT_ADDRESSES="5/minute") as (port, _):
        mine = {"Authorization": f"Bearer {token()}"}
        forged = [{"X-Forwarded-For": f"9.9.9.{number}", "X-Forwarded-Prefix": "/evil"} for number in range(6)]
        read = f"{PREFIX}/v1/subscription"
        statuses = [ask(port, "GET", read, source="127.0.0.11", **mine, **one)[0] for one in forged]
        assert statuses == [200] * 5 + [429]
        assert ask(port, "GET", read, source="127.0.0.12", **mine)[0] == 200
        body = {"plan": "standard", "success_url": f"{ORIGIN}/ok", "cancel_url": f"{ORIGIN}/no"}
        buy = {**mine, "Content-Type": "application/json", "X-Forwarded-Prefix": "/evil"}
        status, headers, _ = ask(
            port, "POST", f"{PREFIX}/v1/checkouts", json.dumps(body).encode(), source="127.0.0.12", **buy
        )
        assert status in (202, 503), "nobody works it: there is no Redis"
        location = headers["Location"]
        assert location.startswith(f"{PREFIX}/v1/checkouts/chk_")
        assert ask(port, "GET", location, source="127.0.0.12", **mine)[0] == 200
