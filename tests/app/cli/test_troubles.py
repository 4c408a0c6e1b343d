"""Eight troubles of an operator: from `onelane report` to the cause and what mends it, in three commands (OPS-184).

What decides is real: the ledger, Valkey, a sandbox over HTTP, the gateway, and workers and beat as processes.
"""

import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from billing.coordination.jobs import QUEUES
from billing.coordination.queue import InlineQueue
from billing.errors import InvalidSignature
from billing.models import outbox
from billing.notifications.deliver import notify
from billing.notifications.senders import HttpNotifier
from billing.operators.presence import EVERY_SECONDS, Heartbeat
from billing.process.run_with_parent import launched
from billing.process.settings import load_settings
from billing.services import build_services
from billing.webhooks.ingest import Ingest
from sandbox.server import running
from tests.support.builders import SECRET, build_event, deliver
from tests.support.databases import sqlite_in
from tests.support.duplicates_world import Shop
from tests.support.running_dev import ROOT, environment, onelane, wait_until
from tests.support.valkey import running_valkey

APP_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVERYBODY = ("web", "worker", "beat")


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

    def are_there(self, *kinds: str, queues: tuple[str, ...] = QUEUES) -> None:
        for kind in kinds:
            taken = queues if kind == "worker" else ()
            self.there[kind] = Heartbeat(self.shop.database, kind=kind, queues=taken)
            self.there[kind].beat()  # the report is read next
            self.ends.callback(self.there[kind].start().stop)

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        """A command line as it was shown, with a reason where it asks for one."""
        assert line.startswith("onelane "), line
        words = shlex.split(line.partition("  (")[0].replace("--reason ...", "--reason 'a call at three'"))[1:]
        return onelane(*words, folder=self.folder, **self.settings)

    def start(self, line: str) -> None:
        """A command that stays."""
        words = [sys.executable, "-P", "-m", *shlex.split(line)]
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

    def worker(self) -> None:
        """A worker of every queue. One that was only said to be there is gone."""
        if "worker" in self.there:
            self.there.pop("worker").stop()
        self.start("onelane worker --concurrency 4")
        self.until_well("No worker")

    def wake(self) -> None:
        """Send what waits in the shop's queue, as the web does."""
        services = build_services(load_settings(redis_url=self.settings["REDIS_URL"], _env_file=None))
        while self.shop.queue.sent:
            services.queue.send(self.shop.queue.sent.pop())

    def report(self) -> str:
        return self.run("onelane report").stdout

    def until_well(self, words: str) -> None:
        """Until the report does not say so any more."""
        wait_until(lambda: words not in self.report(), self.report, 60)

    def follow(self, line: str, *said: str) -> "subprocess.CompletedProcess[str]":
        """Run a command line that was shown; what it says of the cause or of the end."""
        ended = self.run(line)
        for words in said:
            shown = " ".join(ended.stdout.split())
            assert words in shown, (line, ended.stdout, ended.stderr)
        return ended

    def worst(self, words: str) -> str:
        """Step one: the report begins with this; the command below it."""
        shown = self.report()
        lines = shown.splitlines()
        assert any(line.startswith("  onelane ") for line in lines), shown
        end = next(number for number, line in enumerate(lines) if line.startswith("  onelane "))
        assert words in " ".join(lines[:end]), shown
        return lines[end].strip()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Everything is there and nobody has come yet."""
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    with ExitStack() as ends:
        ledger = ends.enter_context(sqlite_in(tmp_path))
        valkey = ends.enter_context(running_valkey(tmp_path / "valkey"))
        shop = Shop(ledger)
        application = Application()
        ends.callback(application.server_close)
        ends.callback(application.shutdown)
        settings = {
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
        yield Place(tmp_path, shop, application, settings, ends)


def no_worker(place: Place) -> None:
    place.are_there("web", "beat")
    place.are_there("worker", queues=("webhooks", "maintenance"))
    checkout_id = place.shop.ask("standard")
    command = place.worst("No worker takes the queue checkout: buyers wait for payment pages.")
    place.wake()
    place.start(command)
    place.until_well("No worker")
    wait_until(lambda: place.shop.view(checkout_id).status == "open", place.report)


def no_beat(place: Place) -> None:
    place.are_there("web", "worker")
    place.start(place.worst("Beat does not run"))
    place.until_well("Beat does not run")


def secret_rolled_on_one_side(place: Place) -> None:
    place.are_there(*EVERYBODY)
    new, clock = "whsec_" + "n" * 32, place.shop.clock
    places: Any = {"database": place.shop.database, "queue": InlineQueue(), "clock": clock, "max_bytes": 1 << 20}

    def arrive(secrets: list[str]) -> None:
        ingest = Ingest(secrets=secrets, **places)
        body, header = deliver(build_event(), secret=new, at=clock.now())
        with suppress(InvalidSignature):
            ingest.submit(body, ingest.expect(len(body), header)).result(10)
        ingest.close()

    arrive([SECRET])
    place.there["web"].beat()
    command = place.worst("1 of Stripe's deliveries were refused: No configured signing secret made this signature.")
    place.follow(
        command, "Put the signing secret that Stripe shows for the endpoint", "STRIPE_WEBHOOK_SECRETS, and restart"
    )
    clock.advance(seconds=EVERY_SECONDS)
    arrive([SECRET, new])
    place.until_well("were refused")


def dead_event(place: Place) -> None:
    place.are_there(*EVERYBODY)
    place.shop.subscribe("user_1")
    place.shop.deliver(place.shop.made())
    place.shop.sandbox.faults.add("status", status=400, code="parameter_invalid", path="/v1/subscriptions", times=None)
    place.shop.work_events()
    place.shop.sandbox.faults.clear()
    command = place.worst("events were given up. The last one: Stripe refused")
    shown = place.follow(command, "Stripe refused").stdout
    place.worker()
    place.follow(f"{shown.splitlines()[-1]} --yes --wait 60", "done")
    place.until_well("given up")
    assert "access.granted True" in place_access(place)


def stripe_at_429(place: Place) -> None:
    place.are_there(*EVERYBODY)
    checkout_id = place.shop.ask("standard")
    place.shop.sandbox.faults.add("status", status=429, times=None)
    place.shop.work_lane()
    place.there["worker"].beat()
    command = place.worst("Stripe asks us to slow down (429)")
    place.follow(command, "stripe_unavailable", "pending_checkouts 1", "user_1")
    place.shop.sandbox.faults.clear()
    place.wake()
    place.worker()
    wait_until(lambda: place.shop.view(checkout_id).status == "open", place.report, 60)


def duplicate_subscription(place: Place) -> None:
    place.are_there(*EVERYBODY)
    customer = place.shop.customer()
    [first], second = place.shop.live(customer), place.shop.another(customer)
    place.shop.found(customer)
    command = place.worst("1 incident waits for a person: 1 duplicate subscription.")
    shown = place.follow(command, first, second, "9.00 USD").stdout
    [keep] = [line for line in shown.splitlines() if f"--keep {first}" in line]
    place.worker()
    ended = place.follow(f"{keep} --yes --wait 60", "is resolved: one is live, and the money of the others is back.")
    assert (ended.returncode, place.shop.live(customer)) == (0, [first])
    assert place.shop.refunded(second) > 0
    place.until_well("incident waits")


def application_endpoint_down(place: Place) -> None:
    place.are_there(*EVERYBODY)
    place.shop.clock.time -= timedelta(minutes=5)
    place.shop.subscribe("user_1")
    place.shop.deliver(place.shop.made())
    place.shop.work_events()
    sender = HttpNotifier(place.settings["APP_WEBHOOK_URL"], APP_SECRET)
    notify(database=place.shop.database, notifier=sender, clock=place.shop.clock)
    command = place.worst("The application does not take changes (1 are tried again): The application answered 500.")
    assert place.follow(command, "delivered False", "status 500").returncode == 1
    place.application.status = 204
    ended = place.follow(command, "delivered True", "status 204")
    place.worker()
    assert place.follow(f"{ended.stdout.splitlines()[-1]} --yes", "are due").returncode == 0
    wait_until(lambda: {row.status for row in place.shop.rows(outbox)} == {"delivered"}, place.report)
    [row, *_] = place.shop.rows(outbox)
    assert [one["status"] for one in row.history] == [500, 204]
    place.until_well("does not take changes")


def paid_without_access(place: Place) -> None:
    place.are_there(*EVERYBODY)
    place.shop.subscribe("user_1")
    assert "onelane customers show USER" in place.report(), "all is well, but for the one who calls"
    shown = place.follow("onelane customers show user_1", "access.granted False", "nothing is known that gives access")
    [command] = [line for line in shown.stdout.splitlines() if line.startswith("onelane customers sync")]
    place.worker()
    ended = place.follow(command, "changes subscription.activated", "access.granted True")
    assert ended.returncode == 0, ended.stderr


def place_access(place: Place) -> str:
    return " ".join(place.run("onelane customers show user_1").stdout.split())


TROUBLES: list[Callable[[Place], None]] = [
    no_worker, no_beat, secret_rolled_on_one_side, dead_event, stripe_at_429, duplicate_subscription,
    application_endpoint_down, paid_without_access,
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: re.sub("_", " ", trouble.__name__))
def test_trouble_is_found_and_mended_within_three_commands(trouble: Callable[[Place], None], place: Place) -> None:
    """OPS-184"""
    trouble(place)
