"""The explorer: the real checkout code in made-up scenes, step by step, without any customer lock.

A scene has two workers, buyers who ask and pay or leave, and ingredients: a payment page that has been open for a
while, a session that an earlier system left, somebody in the Dashboard, crashes, lost and late answers, saved 500s, 409
and 429, lists that lag, minutes or a day that pass, a restored backup, a price that Stripe does not have. The
invariants of the protocol (I1 to I6) are looked at after every step, and at rest.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing import migrate
from billing.customers import claim_customer
from billing.database import Database
from billing.errors import NotFound
from billing.jobs import ProcessEvent
from billing.models import CheckoutStatus, metadata
from billing.subscriptions.projection import is_live
from billing.sweeper import sweep
from billing.webhooks.ingest import receive
from billing.webhooks.processing import process_event
from tests.builders import SECRET, deliver
from tests.checkout_world import World
from tests.races.schedule import AGAIN, Actor, Schedule, SteppedDatabase, SteppedStripe
from tests.races.unlocked import NoLocks

SESSIONS = "^/v1/checkout/sessions$"
ANSWERED = """
    SELECT checkouts.id, checkouts.number, checkouts.status, checkouts.plan, attempts.session_id
    FROM checkouts LEFT JOIN attempts ON attempts.nonce = checkouts.nonce ORDER BY checkouts.number
"""


@dataclass(frozen=True)
class Scene:
    """What happens; in which order is the schedule's."""

    plans: tuple[str, ...] = ("standard", "commit")
    pays: bool = True
    opened: bool = False  # a buyer was given a session before, and may pay it at any moment
    legacy: bool = False  # an earlier system left an open session, which its buyer may pay
    dashboard: bool = False  # somebody expires what is open by hand
    crashes: int = 0
    lossy: float = 0.0  # how often a write's answer is lost, executed or still on its way
    lost_expires: int = 0  # requests that never arrive
    saved_500: int = 0
    busy: int = 0  # a 409 or 429 instead of a creation
    lag_seconds: int = 0  # lists do not show what was made that recently
    minutes: int = 0  # that pass meanwhile, five at a time
    day: bool = False  # 25 hours pass at one step
    restored: bool = False  # a backup of the ledger is taken, and put back later
    webhooks: bool = False  # Stripe's events arrive, the newest first, and are worked meanwhile
    lacks: str | None = None  # a plan whose price Stripe does not have

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
            dashboard=chance.random() < 0.15,
            lost_expires=chance.choice((0, 0, 0, 2)),
            busy=chance.choice((0, 0, 0, 1)),
            day=chance.random() < 0.1,
            restored=chance.random() < 0.1,
            webhooks=chance.random() < 0.3,
        )


class Broken(AssertionError):
    """An invariant does not hold; the text is the story, with what replays it. `steps` is its length."""

    def __init__(self, sentence: str, steps: list[str], replay: str) -> None:
        story = "\n".join(f"{number:4} {step}" for number, step in enumerate(steps))
        super().__init__(f"{sentence} ({replay})\n{story}")
        self.sentence = sentence
        self.steps = len(steps)


class Explorer:
    """Runs one schedule after the other, each on an empty ledger and an empty Stripe."""

    def __init__(self, folder: Path) -> None:
        path = folder / "ledger.sqlite3"
        migrated = Database(f"sqlite:///{path}")
        migrate.upgrade(migrated)
        migrated.close()
        # One engine for all runs: compiling its statements anew would cost half of a run.
        self._database = SteppedDatabase(f"sqlite:///{path}")
        sa.event.listen(self._database.engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
        self._raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        """Let go of the ledger."""
        self._database.close()
        self._raw.close()

    def run(
        self,
        seed: int,
        scene: Scene | None = None,
        delays: dict[int, int] | None = None,
        *,
        crash_at: int | None = None,
    ) -> Schedule:
        """One interleaving. Raises Broken."""
        self._database.schedule = None
        for table in reversed(metadata.sorted_tables):
            self._raw.execute(f"DELETE FROM {table.name}")
        random.seed(seed)  # the jitter of the code under test
        schedule = Schedule(seed, delays, crash_at=crash_at)
        Lane(self._database, self._raw, schedule, scene or Scene.of(seed)).play()
        return schedule

    def delayed(self, scene: Scene, most: int) -> Iterator[int]:
        """Depth-first: every run with at most so many delays; yields the steps of each. Raises Broken."""

        def deeper(taken: dict[int, int], first: int, left: int) -> Iterator[int]:
            schedule = self.run(0, scene, taken)
            yield len(schedule.trace)
            for step in range(first, len(schedule.width)):
                for count in range(1, min(left + 1, schedule.width[step])):
                    yield from deeper({**taken, step: count}, step + 1, left - count)

        return deeper({}, 0, most)

    def crashed(self, scene: Scene) -> Iterator[int]:
        """The straight run with a crash at each of its steps; yields the steps of each. Raises Broken."""
        for step in range(len(self.run(0, scene, {}).trace)):
            yield len(self.run(0, scene, {}, crash_at=step).trace)


class Lane(World):
    """One lane whose every step the schedule decides, and what must be true of it at any time."""

    def __init__(self, database: SteppedDatabase, raw: sqlite3.Connection, schedule: Schedule, scene: Scene) -> None:
        price = f"price_kiloclaw_{scene.lacks}" if scene.lacks else None
        super().__init__(database, locks=NoLocks(), lacks=price)
        self.scene, self.schedule, self.raw = scene, schedule, raw
        self.stepped = SteppedStripe(self.stripe, schedule)
        self.stripe = self.stepped  # type: ignore[assignment]  # a proxy
        self.given: set[str] = set()  # the sessions whose URL a buyer has read
        self.gone: dict[str, int] = {}  # expired by hand, when that many checkouts had arrived
        self.went_back = False
        self.delivered: set[str] = set()  # events
        self.answered: dict[str, str] = {}  # checkout id -> the session it was answered with
        database.schedule = schedule

    def play(self) -> None:
        """Set the scene, run it, look at the end."""
        scene, actors = self.scene, []
        if scene.legacy:  # before there was a lane
            actors.append(Actor("payer of old", self.payer(self.legacy_session())))
            self.clock.advance(minutes=1)  # lists show it by now: what nobody can see yet, nobody can expire
        if scene.opened:
            view = self.served("standard")
            self.given.add(str(view.session_id))
            if scene.pays:
                actors.append(Actor("payer", self.payer(str(view.session_id))))
        else:
            self.ask("standard")  # a checkout that nobody looks at
        extras = {"time": (scene.minutes, self.time), "a day": (scene.day, self.day)}
        extras |= {"dashboard": (scene.dashboard, self.dashboard), "operator": (scene.restored, self.restore)}
        extras |= {"webhooks": (scene.webhooks, self.webhooks)}
        actors += [Actor(name, run) for name, (wanted, run) in extras.items() if wanted]
        row = [Actor(f"buyer {number} ({plan})", self.buyer(plan)) for number, plan in enumerate(scene.plans)]
        row.insert(1, Actor("worker A", self.worker))
        row.insert(3, Actor("worker B", self.worker))
        if scene.day:
            actors.append(Actor("worker C", self.worker))  # who was not there yet when the day began
        self.break_things()
        self.schedule.after_step.append(self.check)
        self.schedule.run(*row, *actors)
        self.stepped.lossy = 0
        self.check_at_rest()

    def break_things(self) -> None:
        """From here on things go wrong."""
        scene, faults = self.scene, self.sandbox.faults
        self.schedule.crashes, self.stepped.lossy = scene.crashes, scene.lossy
        if scene.saved_500:
            kind = self.schedule.random.choice(("save_500_with_effect", "save_500_without_effect"))
            faults.add(kind, method="POST", path=SESSIONS, times=scene.saved_500)
        if scene.lost_expires:
            faults.add("drop_before", method="POST", path="/expire$", times=scene.lost_expires)
        if scene.busy:
            status = self.schedule.random.choice((409, 429))
            faults.add("status", method="POST", path=SESSIONS, status=status, times=scene.busy)
        if scene.lag_seconds:
            faults.add("stale_list", method="GET", path="/v1/", seconds=scene.lag_seconds, times=None)

    # --- who acts

    def worker(self) -> None:
        """A worker that is woken a few times."""
        for _ in range(4):
            self.work_lane(1)
            self.schedule.point(f"{AGAIN} (worker)")

    def buyer(self, plan: str) -> Callable[[], None]:
        """Somebody who asks, looks a few times, and pays what they are given or leaves."""

        def run() -> None:
            checkout_id = self.ask(plan)
            for _ in range(6):
                try:
                    view = self.view(checkout_id)
                except NotFound:
                    return  # a backup was put back that does not know this checkout
                if view.url is None:
                    self.schedule.point(f"{AGAIN} ({view.status})")
                    continue
                session_id = str(view.session_id)
                dead = session_id in self.stepped.expired and not self.went_back
                self.must(not dead, "a buyer was given a session that we had expired")
                self.given.add(session_id)
                self.pay(session_id, "pays" if self.scene.pays else "leaves")
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

    def day(self) -> None:
        """Whoever sleeps now wakes a day later: keys are pruned, sessions have expired."""
        self.schedule.point("25 hours pass")
        self.clock.advance(hours=25)
        self.ask("standard")

    def webhooks(self) -> None:
        """Stripe delivers what has happened, and a worker works it."""
        for _ in range(3):
            self.deliver()
            self.schedule.point(f"{AGAIN} (webhooks)")

    def deliver(self) -> None:
        """Every event that was not delivered yet, the newest first; then whatever of them is due."""
        places: dict[str, Any] = {"database": self.database, "queue": self.queue, "clock": self.clock}
        for event in self.objects("event"):
            if event["id"] not in self.delivered:
                self.schedule.point(f"Stripe delivers {event['type']}")
                self.delivered.add(event["id"])
                body, header = deliver(event, at=self.clock.now())
                receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **places)
        jobs = [job for job in self.queue.sent if isinstance(job, ProcessEvent)]
        self.queue.sent = [job for job in self.queue.sent if job not in jobs]
        for job in jobs:
            process_event(job.row_id, stripe=self.stripe, catalog=self.catalog, **places)

    def dashboard(self) -> None:
        """Somebody expires what is open."""
        self.schedule.point("the Dashboard expires what is open")
        for session in self.sessions("open"):
            gone = self.sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire")
            if gone.status == 200:  # lost expires may be the Dashboard's, too
                self.gone[session["id"]] = self.raw.execute("SELECT max(number) FROM checkouts").fetchone()[0]

    def restore(self) -> None:
        """The ledger goes back in time; Stripe does not."""
        self.schedule.point("a backup is taken")
        backup = sqlite3.connect(":memory:", check_same_thread=False)
        self.raw.backup(backup)
        self.schedule.point("the backup is put back")
        backup.backup(self.raw)
        backup.close()
        # What the old ledger had answered was answered then. Its URLs may be dead by now; the next pass sees to it.
        self.went_back = True
        self.answered = {row[0]: row[4] for row in self.raw.execute(ANSWERED) if row[2] == CheckoutStatus.OPEN}

    def legacy_session(self) -> str:
        """An open session of an earlier system: tagged, without a nonce, and its customer is known to us."""
        customer = str(self.sandbox.request("POST", "/v1/customers", {}).body["id"])
        claim_customer("user_1", customer, database=self.database, clock=self.clock)
        made = {"mode": "subscription", "customer": customer, "success_url": "https://old.example"}
        items = [{"price": self.catalog.plans["standard"].price, "quantity": 1}]
        made |= {"line_items": items, "metadata": {"type": self.catalog.product}}
        return str(self.sandbox.request("POST", "/v1/checkout/sessions", made).body["id"])

    # --- what must hold

    def check(self) -> None:
        """I1, I2 and I4, after every step."""
        live = [one for one in self.objects("subscription") if is_live(one["status"])]
        self.must(len(live) <= 1, f"there are {len(live)} live subscriptions")
        published = [one["id"] for one in self.sessions("open") if one["id"] in self.given]
        self.must(len(published) <= 1, f"{len(published)} open sessions were given out")
        rows = self.raw.execute(ANSWERED).fetchall()
        for id_, number, status, _, session_id in rows:
            if status == CheckoutStatus.OPEN and self.answered.get(id_) != session_id:
                self.answered[id_] = session_id
                self.must(session_id not in self.stepped.expired, "an answer names a session that we had expired")
                fresh = number <= self.gone.get(session_id, number)
                self.must(fresh, "an answer names a session that was expired before its checkout arrived")
        if rows and not live and not self.went_back:
            newest = self.answered.get(rows[-1][0])
            self.must(newest not in self.stepped.expired, "the newest checkout's session was expired")

    def check_at_rest(self) -> None:
        """I1, I3 and I5, once everybody is done and the sweep has had its turns."""
        if self.scene.restored:
            self.ask("standard")  # what the backup did not know is found by the next look
        for _ in range(12):
            self.clock.advance(seconds=61)
            self.work_lane(1)
            if self.scene.webhooks:
                sweep(database=self.database, queue=self.queue, clock=self.clock)
                self.deliver()
        self.must(len(self.sessions("open")) <= 1, f"there are {len(self.sessions('open'))} open sessions")
        # A customer has no expires_at: one made by a worker that slept for a day stays, unused, beside the right one.
        self.must(len(self.objects("customer")) == 1 or self.scene.day, "there is not exactly one customer")
        owners = {one["customer"] for one in self.sessions()}
        self.must(len(owners) <= 1, f"sessions were made for {len(owners)} customers")
        rows = self.raw.execute(ANSWERED).fetchall()
        for _, _, status, plan, _ in rows:
            self.must(status != CheckoutStatus.PENDING, "a checkout is stuck")
            self.must(status != CheckoutStatus.FAILED or plan == self.scene.lacks, "a good checkout failed")
        newest = self.view(rows[-1][0]).status
        self.must(newest is not CheckoutStatus.SUPERSEDED, "the newest checkout was superseded")
        self.check()
        if self.scene.webhooks and not self.went_back:  # what a backup forgot is for reconciling to find
            shown = dict(self.raw.execute("SELECT subscription_id, status FROM subscriptions").fetchall())
            real = {one["id"]: one["status"] for one in self.objects("subscription")}
            self.must(shown == real, f"the projection shows {shown}, Stripe {real}")

    def must(self, holds: bool, sentence: str) -> None:
        """Tell the story when it does not."""
        if not holds:
            how = self.schedule
            replay = f"seed {how.seed}, delays {how.delays}, crash at {how.crash_at}, {self.scene}"
            raise Broken(sentence, self.schedule.trace, replay)

    def session(self, session_id: str) -> dict[str, Any]:
        """One session as Stripe has it."""
        found = self.sandbox.session(session_id)
        assert found is not None
        return found


def first_broken(explorer: Explorer, scene: Scene, *, seeds: int) -> tuple[int, Broken] | None:
    """How many runs it takes to break an invariant in this scene, and the story: first depth-first, then by seeds."""
    runs = 0
    try:
        for _ in chain(explorer.delayed(scene, 1), explorer.crashed(scene)):
            runs += 1
        for seed in range(seeds):
            explorer.run(seed, scene)
            runs += 1
    except Broken as broken:
        return runs + 1, broken
    return None
