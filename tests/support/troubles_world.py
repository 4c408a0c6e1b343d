"""An operator's installation, and eight troubles that it can be brought into.

Each trouble is a function that brings it about and returns what tells its end; `SAID` is what the report begins with.
"""

import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing.coordination.jobs import QUEUES
from billing.coordination.queue import InlineQueue
from billing.errors import InvalidSignature
from billing.models import processes
from billing.notifications.deliver import notify
from billing.notifications.senders import HttpNotifier
from billing.operators.presence import EVERY_SECONDS, Heartbeat, takes
from billing.process.run_with_parent import launched
from billing.process.settings import load_settings
from billing.services import build_services
from billing.webhooks.ingest import Ingest
from sandbox.server import running
from tests.support.builders import SECRET, build_event, deliver
from tests.support.checkout_world import clock_at_present
from tests.support.databases import sqlite_in
from tests.support.duplicates_world import Shop
from tests.support.running_dev import ROOT, environment, wait_until
from tests.support.valkey import running_valkey

APP_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW_SECRET = "whsec_" + "n" * 32
EVERYBODY = ("web", "worker", "beat")
SAID = {
    "no_worker": "No worker takes the queue checkout: buyers wait for payment pages.",
    "no_beat": "Beat does not run: work whose message was lost waits, and nothing is reconciled.",
    "secret_rolled": "1 of Stripe's deliveries was refused, and none was taken for 3 h:"
    " No configured signing secret made this signature.",
    "dead_event": "events were given up. The last one: Stripe refused",
    "stripe_at_429": "Stripe asks us to slow down (429)",
    "duplicate_subscription": "1 incident waits for a person: duplicate subscription.",
    "endpoint_down": "The application does not take changes (1 is tried again, the oldest for 5 min):"
    " The application answered 500.",
    "paid_without_access": "All is well",
}


class Application(ThreadingHTTPServer):
    """The application's endpoint, which answers what it is told to."""

    status = 500

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.server.status)  # type: ignore[attr-defined]  # an Application
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass
class Place:
    """An installation in a folder. Who is said to be there, is; what is started is stopped at the end."""

    folder: Path
    shop: Shop
    application: Application
    settings: dict[str, str]
    ends: ExitStack
    there: dict[str, Heartbeat] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)

    def are_there(self, *kinds: str, queues: tuple[str, ...] = QUEUES) -> None:
        for kind in set(kinds) - self.started:
            taken = queues if kind == "worker" else ()
            self.there[kind] = Heartbeat(self.shop.database, kind=kind, queues=taken)
            self.there[kind].beat()  # the report is read next
            self.ends.callback(self.there[kind].start().stop)

    def was_there(self, kind: str, *queues: str, minutes: int) -> None:
        """One that ended so long ago, and did not say so."""
        Heartbeat(self.shop.database, kind=kind, name="gone", queues=queues).beat()
        own = sa.update(processes).where(processes.c.name == "gone")
        with self.shop.database.write() as connection:
            seen_at = connection.scalar(sa.select(processes.c.seen_at).where(processes.c.name == "gone"))
            assert seen_at
            connection.execute(own.values(seen_at=seen_at - timedelta(minutes=minutes)))

    def start(self, line: str) -> None:
        """A command that stays."""
        words = [sys.executable, "-P", "-m", *shlex.split(line)]
        self.started.add(words[4])
        log = self.ends.enter_context((self.folder / "log").open("ab"))
        process = subprocess.Popen(
            launched(words) if sys.platform == "linux" else words,
            cwd=self.folder,
            env=environment(PYTHONPATH=str(ROOT), **self.settings),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        self.ends.callback(process.wait, 30)
        self.ends.callback(process.terminate)

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def worker(self) -> None:
        """A worker of every queue. One that was only said to be there is gone."""
        if "worker" in self.there:
            self.there.pop("worker").stop()
        self.start("onelane worker --concurrency 4")
        wait_until(lambda: all(takes(self.shop.database, queue) for queue in QUEUES), self.log, 60)

    def wake(self) -> None:
        """Send what waits in the shop's queue, as the web does."""
        services = build_services(load_settings(redis_url=self.settings["REDIS_URL"], _env_file=None))
        while self.shop.queue.sent:
            services.queue.send(self.shop.queue.sent.pop())

    def has_a_page(self, checkout_id: str) -> bool:
        """Whether the buyer was given a payment page."""
        return self.shop.view(checkout_id).status == "open"


@contextmanager
def place_in(folder: Path, **settings: str) -> Iterator[Place]:
    """Everything is there and nobody has come yet."""
    (folder / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    with ExitStack() as ends:
        ledger = ends.enter_context(sqlite_in(folder))
        valkey = ends.enter_context(running_valkey(folder / "valkey"))
        shop = Shop(ledger)
        application = Application()
        ends.callback(application.server_close)
        ends.callback(application.shutdown)
        ours = {
            "DATABASE_URL": str(ledger.url),
            "REDIS_URL": valkey.url,
            "STRIPE_API_KEY": "sk_test_x",
            "STRIPE_API_BASE": ends.enter_context(running(shop.sandbox)),
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "AUTH_JWT_SECRET": "0123456789abcdef" * 2,
            "REDIRECT_ORIGINS": "https://app.example",
            "APP_WEBHOOK_URL": f"http://127.0.0.1:{application.server_port}/hook",
            "APP_WEBHOOK_SECRET": APP_SECRET,
        }
        yield Place(folder, shop, application, ours | settings, ends)


# --- The troubles


def no_worker(place: Place) -> str:
    """The one for checkouts ended twelve minutes ago; the checkout that waits."""
    place.are_there("web", "beat")
    place.are_there("worker", queues=("webhooks", "maintenance"))
    place.was_there("worker", "checkout", minutes=12)
    return place.shop.ask("standard")


def no_beat(place: Place) -> None:
    """It ended half an hour ago."""
    place.are_there("web", "worker")
    place.was_there("beat", minutes=30)


def secret_rolled(place: Place) -> None:
    """At Stripe, and not here, within the last three hours."""
    place.are_there(*EVERYBODY)
    place.shop.clock.time -= timedelta(hours=3)
    place.shop.deliver([build_event("customer.created")])  # which needs no work
    receive_signed_anew(place, [SECRET])
    place.there["beat"].beat()  # the heartbeat of any process takes with it what its process saw


def receive_signed_anew(place: Place, accepted: list[str]) -> None:
    """Stripe delivers with its new secret to a web that has these."""
    clock = place.shop.clock
    clock.time = clock_at_present().time + timedelta(seconds=EVERY_SECONDS)  # after the heartbeat that noted the other
    ingest = Ingest(secrets=accepted, database=place.shop.database, queue=InlineQueue(), clock=clock, max_bytes=1 << 20)
    body, header = deliver(build_event(), secret=NEW_SECRET, at=clock.now())
    with suppress(InvalidSignature):
        ingest.submit(body, ingest.expect(len(body), header)).result(10)
    ingest.close()


def dead_event(place: Place) -> None:
    """Stripe refused what the events of a buyer asked for; it does not any more."""
    place.are_there(*EVERYBODY)
    place.shop.subscribe("user_1")
    place.shop.deliver(place.shop.made())
    refusal = {"status": 400, "code": "parameter_unknown", "message": "Received unknown parameter: expand."}
    place.shop.sandbox.faults.add("status", path="/v1/subscriptions", times=None, **refusal)
    place.shop.work_events()
    place.shop.sandbox.faults.clear()


def stripe_at_429(place: Place) -> str:
    """It refuses every call, until its faults are cleared; the checkout that waits."""
    place.are_there(*EVERYBODY)
    checkout_id = place.shop.ask("standard")
    place.shop.sandbox.faults.add("status", status=429, times=None)
    place.shop.work_lane()
    place.there["worker"].beat()
    return checkout_id


def duplicate_subscription(place: Place) -> tuple[str, str, str]:
    """One customer has two; the customer, the older one, and the newer one."""
    place.are_there(*EVERYBODY)
    place.shop.clock.time -= timedelta(hours=2)
    customer = place.shop.customer()
    [first], second = place.shop.live(customer), place.shop.another(customer)
    place.shop.found(customer)
    return customer, first, second


def endpoint_down(place: Place) -> None:
    """It answers 500, until its status is another."""
    place.are_there(*EVERYBODY)
    place.shop.clock.time -= timedelta(minutes=5)
    place.shop.subscribe("user_1")
    place.shop.deliver(place.shop.made())
    place.shop.work_events()
    sender = HttpNotifier(place.settings["APP_WEBHOOK_URL"], APP_SECRET)
    notify(database=place.shop.database, notifier=sender, clock=place.shop.clock)


def paid_without_access(place: Place) -> None:
    """No event of the buyer's has come."""
    place.are_there(*EVERYBODY)
    place.shop.subscribe("user_1")
