"""Changes reach the application by wake-ups alone: a real worker on a real Valkey, and no beat, so no poll."""

import json
import os
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.clock import SYSTEM_CLOCK
from billing.coordination.queue import CeleryQueue
from billing.database import Database
from billing.models import outbox
from billing.process.run_with_parent import launched
from billing.webhooks.signature import sign
from tests.support.builders import SECRET
from tests.support.ports import own_port
from tests.support.receiving import receive
from tests.worker.conftest import ROOT, Valkey, wait_until

APP_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = "sk_test_of_changes"


class Application:
    """What the application heard, in order; while `answers` is not set it keeps the worker waiting."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Its address."""
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                application.heard.append(body["data"]["customer_id"])
                application.answers.wait(9)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/changes"
            server.shutdown()


class Shop:
    """A Stripe, one worker and an application; events are received here, as a web does it."""

    def __init__(self, stripe: str, database: Database, queue: CeleryQueue, application: Application) -> None:
        self._stripe, self._database, self._queue, self.application = stripe, database, queue, application

    def ask(self, method: str, path: str, **form: str) -> dict[str, Any]:
        """One request to Stripe."""
        data = urllib.parse.urlencode(form).encode() if method == "POST" else None
        request = urllib.request.Request(self._stripe + path, data, {"Authorization": f"Bearer {KEY}"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def subscribed(self) -> str:
        """A new customer who pays, and whose event has arrived; their id."""
        customer = str(self.ask("POST", "/v1/customers")["id"])
        card = f"{self._stripe}/_sandbox/customers/{customer}/card"
        urllib.request.urlopen(urllib.request.Request(card, method="POST"), timeout=10).close()
        price = {"items[0][price]": "price_kiloclaw_standard"}
        self.ask("POST", "/v1/subscriptions", customer=customer, **price)
        made = self.ask("GET", "/v1/events?type=customer.subscription.created&limit=1")["data"]
        body = json.dumps(made[0]).encode()
        header = sign(body, SECRET, now=SYSTEM_CLOCK.now().timestamp())
        receive(body, header, secrets=[SECRET], database=self._database, queue=self._queue, clock=SYSTEM_CLOCK)
        return customer

    def is_noted(self, customer: str) -> bool:
        """Whether a change of this customer is in the outbox."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(outbox.c.id).where(outbox.c.customer_id == customer)) is not None

    def hears(self, customer: str) -> None:
        """The change of this customer arrives."""
        wait_until(lambda: customer in self.application.heard, f"{customer} is heard of; {self.application.heard}")


@pytest.fixture
def shop(database: Database, valkey: Valkey, queue: CeleryQueue, tmp_path: Path) -> Iterator[Shop]:
    port = own_port()
    application = Application()
    stripe, alive, log = f"http://127.0.0.1:{port}", tmp_path / "alive", tmp_path / "log"
    seed = ["--seed", str(ROOT / "deploy" / "sandbox-seed.json")]
    with application.listening() as address, log.open("wb") as output:
        environment = {
            **os.environ,
            "DATABASE_URL": database.url.render_as_string(hide_password=False),
            "REDIS_URL": valkey.url,
            "STRIPE_API_KEY": KEY,
            "STRIPE_API_BASE": stripe,
            "CATALOG": str(ROOT / "catalog.toml"),
            "APP_WEBHOOK_URL": address,
            "APP_WEBHOOK_SECRET": APP_SECRET,
            "NO_PROXY": "127.0.0.1",
        }
        commands = [["sandbox", "--port", str(port), *seed], ["worker", "work", "--alive-file", str(alive)]]
        running = [
            subprocess.Popen(
                launched([sys.executable, "-m", *command]), cwd=ROOT, env=environment, stdout=output, stderr=output
            )
            for command in commands
        ]
        try:
            wait_until(lambda: alive.exists() or running[1].poll() is not None, "the worker is ready", 30)
            assert running[1].poll() is None, log.read_text("utf-8")
            yield Shop(stripe, database, queue, application)
        finally:
            application.answers.set()
            for process in running:
                process.kill()
                process.wait()


def test_changes_arrive_without_a_poll_also_those_that_come_during_a_run(shop: Shop) -> None:
    """NTF-9, NTF-10: the second one is committed while the only sender waits for the application."""
    shop.hears(shop.subscribed())
    shop.application.answers.clear()
    slow = shop.subscribed()
    shop.hears(slow)
    quick = shop.subscribed()
    wait_until(lambda: shop.is_noted(quick), "its change is committed")
    assert quick not in shop.application.heard
    shop.application.answers.set()
    shop.hears(quick)
