"""KiloClaw's users over HTTP: the application in process, its workers, and the sandbox."""

from datetime import datetime
from functools import partial
from typing import Any

from werkzeug.test import TestResponse

from app import create_app
from billing.coordination.jobs import WorkEvents, WorkLane, WorkOperations
from billing.services import Services
from billing.webhooks.events_store import count_pending
from tests.app.conftest import build_settings
from tests.support.builders import deliver
from tests.support.checkout_world import World
from tests.support.valkey import wait_until
from tests.support.web import Web
from tests.support.working import work_due

Json = dict[str, Any]


class Workers:
    """A queue whose jobs are worked while they are sent."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, job: Any, *, delay_seconds: float = 0) -> None:
        """Work it."""
        world = self._world
        if isinstance(job, WorkLane):
            world.work_lane(job.row_id)
        elif isinstance(job, WorkOperations):
            world.work_operations(job.row_id)
        elif isinstance(job, WorkEvents) and not delay_seconds:
            places: Json = {"database": world.database, "queue": self, "clock": world.clock, "catalog": world.catalog}
            work_due(stripe=world.stripe, **places)

    def taken(self, job: Any) -> None:
        """Nothing waits here."""

    def trouble(self) -> str | None:
        """None."""
        return None


class Claw:
    """KiloClaw's users in front of their frontend; Stripe's events arrive when `told`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._told = 0
        settings = build_settings()
        rest: Json = {"database": world.database, "wakeups": world.wakeups, "locks": world.locks, "stripe": None}
        services = Services(settings=settings, catalog=world.catalog, queue=Workers(world), clock=world.clock, **rest)
        self.web = Web(create_app(settings, services))

    def told(self) -> None:
        """What happened at Stripe since is delivered."""
        made = self.world.objects("event")[::-1]
        for event in made[self._told :]:
            wait_until(partial(self._is_taken, event), "it is taken: Stripe sends again after a 503")
        self._told = len(made)
        wait_until(lambda: not self.waiting(), "they are worked: an answer does not wait for that")

    def _is_taken(self, event: Json) -> bool:
        body, header = deliver(event, at=self.world.clock.now())
        sent = {"Stripe-Signature": header, "Content-Type": "application/json"}
        return self.web.client.post("/webhooks/stripe", data=body, headers=sent).status_code == 200

    def waiting(self) -> int:
        """How many events are not worked yet."""
        with self.world.database.read() as connection:
            return count_pending(connection)

    def status(self, user: str = "user_1") -> Json:
        """GET /v1/subscription."""
        answer: Json = self.web.get("/v1/subscription", user=user).get_json()
        return answer

    def access(self, user: str = "user_1") -> tuple[bool, str]:
        """Whether, and why."""
        access = self.status(user)["access"]
        return access["granted"], access["reason"]

    def buy(self, plan: str = "standard", user: str = "user_1") -> Json:
        """Ask for a page and pay; the subscription at Stripe."""
        asked = self.web.checkout(plan=plan, user=user)
        assert asked.status_code == 201, asked.get_data(as_text=True)
        paid = self.world.sandbox.pay(asked.get_json()["session_id"])
        self.told()
        return self.at_stripe(str(paid["subscription"]))

    def change(self, what: str, **body: Any) -> TestResponse:
        """POST /v1/subscription/…"""
        return self.web.call("POST", f"/v1/subscription/{what}", json=body or None)

    def at_stripe(self, subscription: str) -> Json:
        """The subscription as Stripe has it."""
        found: Json = self.world.sandbox.request("GET", f"/v1/subscriptions/{subscription}").body
        return found

    def go_to(self, moment: int | str | None) -> None:
        """Time passes until just after this; Stripe tells of it."""
        assert moment is not None
        end = moment if isinstance(moment, int) else datetime.fromisoformat(moment).timestamp()
        self.world.clock.advance(seconds=end - self.world.clock.now().timestamp() + 60)
        self.world.sandbox.tick()
        self.told()

    def end(self, subscription: str) -> None:
        """It is over at once."""
        self.world.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}")
        self.told()
