"""The explorer: the real checkout code in scenes that a seed makes up, step by step, without any customer lock.

A scene has two workers, buyers who ask and pay or leave, and what the seed adds: a payment page that has been open for
a while, a session that an earlier system left, crashes, lost and late answers, saved 500s, lists that lag, time
that passes, a sweep. The invariants of the protocol (I1 to I6) are looked at after every step, and at rest.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing import migrate
from billing.customers import claim_customer
from billing.database import Database
from billing.models import CheckoutStatus, checkouts
from billing.subscriptions.projection import is_live
from tests.checkout_world import World
from tests.races.schedule import Actor, Schedule, SteppedDatabase, SteppedStripe
from tests.races.unlocked import NoLocks


@dataclass(frozen=True)
class Scene:
    """What happens; in which order is the schedule's."""

    plans: tuple[str, ...] = ("standard", "commit")
    pays: bool = True
    opened: bool = False  # a buyer was given a session before, and may pay it at any moment
    legacy: bool = False  # an earlier system left an open session, which its buyer may pay
    crashes: int = 0
    lossy: float = 0.0
    saved_500: int = 0
    lag_seconds: int = 0  # lists do not show what was made that recently
    minutes: int = 0  # that pass meanwhile, five at a time

    @classmethod
    def of(cls, seed: int) -> "Scene":
        """The scene of a seed: every ingredient comes and goes."""
        chance = random.Random(f"scene {seed}")
        plans = tuple(chance.choice(("standard", "commit")) for _ in range(chance.randint(1, 3)))
        return cls(
            plans=plans,
            pays=chance.random() < 0.7,
            opened=chance.random() < 0.5,
            legacy=chance.random() < 0.3,
            crashes=chance.choice((0, 0, 1, 2)),
            lossy=chance.choice((0.0, 0.0, 0.25)),
            saved_500=chance.choice((0, 0, 0, 1)),
            lag_seconds=chance.choice((0, 0, 0, 3)),
            minutes=chance.choice((0, 0, 20)),
        )


class Broken(AssertionError):
    """An invariant does not hold; the text is the story, with the seed that replays it."""


class Explorer:
    """Runs seeds, each in a fresh ledger and a fresh Stripe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template.sqlite3"
        database = Database(f"sqlite:///{self._template}")
        migrate.upgrade(database)
        database.close()

    def run(self, seed: int, scene: Scene | None = None) -> int:
        """One interleaving; how many steps it had. Raises Broken."""
        path = self._folder / f"{seed}.sqlite3"
        shutil.copy(self._template, path)
        database = SteppedDatabase(f"sqlite:///{path}")
        sa.event.listen(database.engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
        try:
            lane = Lane(database, Schedule(seed), scene or Scene.of(seed))
            lane.play()
            return len(lane.schedule.trace)
        finally:
            database.close()
            path.unlink()


class Lane(World):
    """One lane whose every step the schedule decides, and what must be true of it at any time."""

    def __init__(self, database: SteppedDatabase, schedule: Schedule, scene: Scene) -> None:
        super().__init__(database, locks=NoLocks())
        self.scene = scene
        self.schedule = schedule
        database.schedule = schedule
        self.plain = self.stripe
        self.stepped = SteppedStripe(self.stripe, schedule)
        self.stripe = self.stepped  # type: ignore[assignment]  # a proxy
        self.given: dict[str, int] = {}  # session id -> the newest checkout that was given its URL

    def play(self) -> None:
        """Set the scene, run it, look at the end."""
        actors = [Actor("worker A", self.worker), Actor("worker B", self.worker)]
        if self.scene.legacy:  # before there was a lane
            actors.append(Actor("payer of old", self.payer(self.legacy_session())))
            self.clock.advance(minutes=1)  # lists show it by now: what nobody can see yet, nobody can expire
        if self.scene.opened:
            view = self.served("standard")
            self.note_given(str(view.session_id), view.id)
            actors.append(Actor("payer", self.payer(str(view.session_id))))
        else:
            self.ask("standard")  # a checkout that nobody looks at
        for number, plan in enumerate(self.scene.plans):
            actors.append(Actor(f"buyer {number} ({plan})", self.buyer(plan)))
        if self.scene.minutes:
            actors.append(Actor("time", self.time))
        self.schedule.after_step.append(self.check)
        self.schedule.crashes = self.scene.crashes
        self.stepped.lossy = self.scene.lossy
        if self.scene.saved_500:
            kind = self.schedule.random.choice(("save_500_with_effect", "save_500_without_effect"))
            self.sandbox.faults.add(kind, method="POST", path="^/v1/checkout/sessions$", times=self.scene.saved_500)
        if self.scene.lag_seconds:
            self.sandbox.faults.add("stale_list", method="GET", path="/v1/", seconds=self.scene.lag_seconds, times=None)
        self.schedule.run(*actors)
        self.stepped.lossy = 0
        self.check_at_rest()

    # --- who acts

    def worker(self) -> None:
        """A worker that is woken a few times."""
        for _ in range(4):
            self.work_lane(1)
            self.schedule.point("looks again (worker)")

    def buyer(self, plan: str) -> Callable[[], None]:
        """Somebody who asks, looks a few times, and pays what they are given or leaves."""

        def run() -> None:
            checkout_id = self.ask(plan)
            for _ in range(6):
                view = self.view(checkout_id)
                if view.url is None:
                    self.schedule.point(f"looks again ({view.status})")
                    continue
                self.note_given(str(view.session_id), checkout_id)
                self.pay(str(view.session_id), "pays" if self.scene.pays else "leaves")
                return

        return run

    def payer(self, session_id: str) -> Callable[[], None]:
        """Somebody whose payment page has been open for a while."""
        return lambda: self.pay(session_id, "pays on a page that is open already")

    def pay(self, session_id: str, label: str) -> None:
        """What a payment page does: pays if the session is still open at that moment."""
        self.schedule.point(label)
        if label != "leaves" and self.session(session_id)["status"] == "open":
            self.sandbox.pay(session_id)

    def time(self) -> None:
        """Time passes, five minutes at a step."""
        for _ in range(self.scene.minutes // 5):
            self.schedule.point("five minutes pass")
            self.clock.advance(minutes=5)

    def legacy_session(self) -> str:
        """An open session of an earlier system: tagged, without a nonce, and its customer is known to us."""
        customer = str(self.sandbox.request("POST", "/v1/customers", {}).body["id"])
        claim_customer("user_1", customer, database=self.database, clock=self.clock)
        made = {"mode": "subscription", "customer": customer, "success_url": "https://old.example"}
        items = [{"price": self.catalog.plans["standard"].price, "quantity": 1}]
        made |= {"line_items": items, "metadata": {"type": self.catalog.product}}
        return str(self.sandbox.request("POST", "/v1/checkout/sessions", made).body["id"])

    # --- what must hold

    def note_given(self, session_id: str, checkout_id: str) -> None:
        """I4: nobody is given the URL of a session that was expired before."""
        self.must(self.session(session_id)["status"] != "expired", "a buyer was given an expired session")
        with self.database.engine.connect() as connection:
            number = connection.scalar(sa.select(checkouts.c.number).where(checkouts.c.id == checkout_id))
        self.given[session_id] = max(self.given.get(session_id, 0), number or 0)

    def check(self) -> None:
        """I1, I2 and I4, after every step."""
        live = [one for one in self.objects("subscription") if is_live(one["status"])]
        self.must(len(live) <= 1, f"there are {len(live)} live subscriptions")
        published = [one["id"] for one in self.sessions("open") if one["id"] in self.given]
        self.must(len(published) <= 1, f"{len(published)} open sessions were given out")
        if not live:
            for session_id, number in self.given.items():
                if self.session(session_id)["status"] == "expired":
                    with self.database.engine.connect() as connection:
                        last = connection.scalar(sa.select(sa.func.max(checkouts.c.number))) or 0
                    self.must(number < last, "the newest checkout's session was expired")

    def check_at_rest(self) -> None:
        """I1, I3 and I5, once everybody is done and the sweep has had its turns."""
        for _ in range(12):
            self.clock.advance(seconds=61)
            self.work_lane(1)
        self.must(len(self.sessions("open")) <= 1, f"there are {len(self.sessions('open'))} open sessions")
        with self.database.engine.connect() as connection:
            waiting = sa.select(checkouts.c.id).where(checkouts.c.status == CheckoutStatus.PENDING)
            self.must(connection.scalars(waiting).all() == [], "a checkout is stuck")
            newest = connection.scalar(sa.select(checkouts.c.id).order_by(checkouts.c.number.desc()).limit(1))
        self.must(self.view(str(newest)).status is not CheckoutStatus.SUPERSEDED, "the newest checkout was superseded")
        self.check()

    def must(self, holds: bool, sentence: str) -> None:
        """Tell the story when it does not."""
        if not holds:
            steps = "\n".join(f"{number:4} {step}" for number, step in enumerate(self.schedule.trace))
            raise Broken(f"{sentence} (seed {self.schedule.seed}, {self.scene})\n{steps}")

    def session(self, session_id: str) -> dict[str, Any]:
        """One session as Stripe has it."""
        found = self.sandbox.session(session_id)
        assert found is not None
        return found
