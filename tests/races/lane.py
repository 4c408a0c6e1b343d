"""One lane in a scene: who acts, what goes wrong, and what must be true after every step and at rest (I1 to I6)."""

import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any

from billing.checkout.straying import expire_strays
from billing.customers import claim_customer
from billing.errors import NotFound, StripeUnclear
from billing.jobs import ProcessEvent
from billing.models import CheckoutStatus
from billing.subscriptions.projection import is_live
from billing.sweeper import sweep
from billing.webhooks.ingest import receive
from billing.webhooks.processing import process_event
from tests.builders import SECRET, deliver
from tests.checkout_world import World
from tests.races.scene import Broken, Scene
from tests.races.schedule import AGAIN, Actor, Schedule, SteppedDatabase, SteppedStripe
from tests.races.unlocked import NoLocks

SESSIONS = "^/v1/checkout/sessions$"
ANSWERED = """
    SELECT checkouts.id, checkouts.number, checkouts.status, checkouts.plan, attempts.session_id
    FROM checkouts LEFT JOIN attempts ON attempts.nonce = checkouts.nonce ORDER BY checkouts.number
"""


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
        extras |= {"webhooks": (scene.webhooks, self.webhooks), "stray sweep": (scene.sweeps, self.sweep_strays)}
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

    def sweep_strays(self) -> None:
        """Reconciling looks at every customer, twice."""
        for _ in range(2):
            self.schedule.point(f"{AGAIN} (stray sweep)")
            for customer in self.objects("customer"):
                places: dict[str, Any] = {"database": self.database, "stripe": self.stripe, "locks": NoLocks()}
                with contextlib.suppress(StripeUnclear):
                    expire_strays(customer["id"], catalog=self.catalog, **places)

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
            self.stepped.lossy = 0
            self.sandbox.faults.clear()
            self.clock.advance(minutes=1)
            self.sweep_strays()  # what the backup did not know
            self.must(len(self.sessions("open")) <= 1, "a stray was left after the sweep")
            self.ask("standard")
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
