"""An installation of onelane for one test: the web, the workers, a ledger in SQLite and the sandbox, in this process.

Time stands still until the test moves it. Stripe's events are delivered, and all that follows is worked, before a call
here returns. `url` and `stripe_url` serve both over HTTP, for an application that is tested from outside.
"""

import base64
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from standardwebhooks import Webhook
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from app import create_app
from app.dev.settings import sandbox_seed
from app.dev.tokens import sign_token
from app.webhooks import EXTENSION
from billing.catalog import load_catalog
from billing.coordination.jobs import Sweep
from billing.coordination.locks import LocalLocks
from billing.coordination.wakeups import LocalWakeups
from billing.customers.store import read_customer
from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.notifications.senders import NotDelivered
from billing.process.settings import Settings
from billing.services import Services
from billing.webhooks.endpoint import PATH
from billing.webhooks.signature import sign
from onelane.testing.in_process import gateway
from onelane.testing.work import MovableClock, Workers
from sandbox.core import Sandbox
from sandbox.events import visible
from sandbox.server import running

Json = dict[str, Any]
Receiver = Callable[[Mapping[str, str], bytes], int]  # headers and body of a change; gives the status it answers

STRIPE_SECRET = "whsec_of_the_tests_own_stripe"  # noqa: S105  # of this process
CHANGES_SECRET = "whsec_" + base64.b64encode(b"of the tests' own changes").decode()
SERVER_KEY = "the-key-of-the-tests-own-server"
ORIGIN = "http://localhost"
_GIVEN = {
    "auth_jwt_secret": "a-secret-of-the-tests-own-login-page",
    "auth_api_keys": SERVER_KEY,
    "stripe_webhook_secrets": STRIPE_SECRET,
    "redirect_origins": ORIGIN,
    "checkout_wait_seconds": 0.05,  # what can be answered is, before anything waits
    "rate_limit_checkouts": "1000000/minute",
    "rate_limit_reads": "1000000/minute",
    "rate_limit_addresses": "1000000/minute",
}


def make_ledger(path: Path) -> Path:
    """Write an empty ledger; its path."""
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    return path


class Installation:
    """See the module. `settings` are given as in the environment, in lower case."""

    server_key = SERVER_KEY
    webhook_secret = CHANGES_SECRET

    def __init__(self, catalog: Path, *, ledger: Path, **settings: Any) -> None:
        defaults = {name: field.get_default() for name, field in Settings.model_fields.items()}
        chosen = Settings(**{**defaults, **_GIVEN, **settings}, _env_file=None)  # type: ignore[call-arg]
        self.clock = MovableClock(datetime.now(UTC).replace(microsecond=0))
        self.stripe = Sandbox(clock=lambda: self.clock.time.timestamp())
        self.changes: list[Json] = []
        self.receiver: Receiver | None = None
        self._delivered: set[str] = set()
        self._stack = ExitStack()
        self._workers = Workers(chosen, lambda: self._services, self.clock)
        self._services = Services(
            settings=chosen,
            catalog=load_catalog(catalog),
            database=Database(f"sqlite:///{ledger}"),
            queue=self._workers,
            wakeups=LocalWakeups(),
            locks=LocalLocks(),
            stripe=gateway(self.stripe, clock=self.clock),
            clock=self.clock,
            application=self,
        )
        self.stripe.seed(sandbox_seed(self._services.catalog))
        self.app = create_app(chosen, self._services)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.app.extensions[EXTENSION].close()
        self._services.database.close()
        self.stripe.close()

    # --- what an application asks

    def token(self, user_id: str, *, email: str | None = None) -> str:
        """A buyer's token, good for an hour."""
        return sign_token(user_id, settings=self._services.settings, now=datetime.now(UTC), email=email)

    def call(self, method: str, path: str, *, user: str | None = None, **more: Any) -> TestResponse:
        """A request as this buyer, or with the server key; `more` is what Werkzeug's test client takes, as `json`."""
        bearer = self.server_key if user is None else self.token(user)
        headers = {"Authorization": f"Bearer {bearer}", **more.pop("headers", {})}
        return self.app.test_client().open(path, method=method, headers=headers, **more)

    def checkout(self, user: str, plan: str, **body: Any) -> Json:
        """The buyer asks for a plan: the checkout with its `url`, or the problem with its `code`."""
        addresses = {"success_url": f"{ORIGIN}/paid", "cancel_url": f"{ORIGIN}/left"}
        return _json(self.call("POST", "/v1/checkouts", user=user, json={"plan": plan, **addresses, **body}))

    def subscription(self, user: str) -> Json:
        """What the buyer has: `access`, `subscription` and `product_trial`."""
        return _json(self.call("GET", "/v1/subscription", user=user))

    def access(self, user: str) -> Json:
        """Whether the buyer has access, why, and until when."""
        access: Json = self.subscription(user)["access"]
        return access

    # --- what happens at Stripe

    def pay(self, checkout: Mapping[str, Any], *, card: str = "pm_card_visa", delayed: bool = False) -> None:
        """The buyer pays on the checkout's page, with one of Stripe's test cards; `delayed`: by a debit.

        Raises ValueError where the checkout was refused, with the reason.
        """
        if not checkout.get("session_id"):
            wrong = "".join(f" {one['pointer']} {one['detail']}." for one in checkout.get("errors", ()))
            raise ValueError(f"There is no page to pay on: {checkout.get('detail') or checkout.get('status')}{wrong}")
        self.stripe.pay(str(checkout["session_id"]), card=card, delayed=delayed)
        self.settle()

    def bank_says(self, user: str, code: str | None) -> None:
        """The buyer's cards are declined from now on, by Stripe's decline codes; None: they are not any more.

        Raises ValueError for a buyer who has no card yet.
        """
        with self._services.database.read() as connection:
            customer = read_customer(connection, user)
        cards = [
            card
            for card in self.stripe.store.newest_first("payment_method")
            if customer is not None and card["customer"] == customer.customer_id
        ]
        if not cards:
            raise ValueError(f"{user} has no card at Stripe: it comes with a payment.")
        for card in cards:
            self.stripe.card_answers(card["id"], code)

    def fault(self, kind: str, **fields: Any) -> None:
        """Spoil the next requests to Stripe: `fault("status", path="/v1/checkout/sessions", status=500)`."""
        self.stripe.faults.add(kind, **fields)

    def advance(self, **delta: float) -> None:
        """Let time pass, at Stripe too: `advance(days=31)`. Renewals come, and what became due is done."""
        self.clock.advance(**delta)
        self.stripe.tick()
        self.settle()

    def settle(self) -> None:
        """Deliver Stripe's events and let everything that follows be worked."""
        self.stripe.tick()  # a test clock that is on its way arrives
        while events := [one for one in self._events() if one["id"] not in self._delivered]:
            for event in events:
                body = json.dumps(visible(event)).encode()
                headers = {"Stripe-Signature": sign(body, STRIPE_SECRET, now=self.clock.time.timestamp())}
                self.app.test_client().post(PATH, data=body, headers=headers, content_type="application/json")
                self._delivered.add(event["id"])
            self._workers.finish()
        self._workers.send(Sweep())
        self._workers.finish()

    def _events(self) -> list[Json]:
        return [one for one in reversed(list(self.stripe.store.newest_first("event"))) if one["object"] == "event"]

    # --- what the application is told

    def send(self, message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
        """Keep a change in `changes`, once `receiver` has taken it where there is one. Raises NotDelivered."""
        if self.receiver is not None:
            status = self.receiver(*self.signed(body, message_id=message_id))
            if not 200 <= status < 300:
                raise NotDelivered(f"The application answered {status}.")
        self.changes.append({"id": message_id, **body})

    def signed(self, body: Mapping[str, Any], *, message_id: str = "msg_1") -> tuple[Json, bytes]:
        """The headers and the bytes of a change, as they are sent: for a test of the receiver alone."""
        data, now = json.dumps(body, separators=(",", ":")), datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(CHANGES_SECRET).sign(message_id, now, data),
        }
        return headers, data.encode()

    # --- over HTTP

    @property
    def url(self) -> str:
        """onelane's address, served from the first time that it is asked for."""
        if not hasattr(self, "_url"):
            server = make_server("127.0.0.1", 0, self.app, threaded=True)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            self._stack.callback(thread.join)
            self._stack.callback(server.server_close)
            self._stack.callback(server.shutdown)
            self._url = f"http://127.0.0.1:{server.server_port}"
        return self._url

    @property
    def stripe_url(self) -> str:
        """The sandbox's address, served from the first time that it is asked for; its payment pages are there."""
        if not hasattr(self, "_stripe_url"):
            self._stripe_url = self._stack.enter_context(running(self.stripe))
        return self._stripe_url


def _json(answer: TestResponse) -> Json:
    body: Json = answer.get_json(force=True)
    return body
