"""What surrounds a lane in a scene, and is not its worker: time, Stripe's deliveries, people at the Dashboard, backups.

Whatever happens here may happen at any step. `met` counts it, so that `make race` can show that it did happen.
"""

import contextlib
import sqlite3
from typing import Any

from billing.checkout.orphaned_sessions import expire_orphaned_sessions
from billing.coordination.jobs import RemedyDuplicates, WorkEvents
from billing.customers.customers import claim_customer
from billing.duplicates.context import Context as RemedyContext
from billing.duplicates.remedy import remedy_duplicates
from billing.errors import InvalidSignature, NotFound, StaleWrite, StripeUnclear
from billing.models import CheckoutStatus
from billing.operators.expire_checkout import NotOpen, begin_expiry
from tests.races.ports import CHANGES, SteppedClock, SteppedDatabase, SteppedLocks, SteppedQueue, SteppedStripe
from tests.races.scene import Broken, Scene
from tests.races.schedule import AGAIN, Schedule
from tests.support.builders import SECRET, MovableClock, deliver
from tests.support.checkout_world import World
from tests.support.receiving import receive
from tests.support.working import work_due

# Every POST that the code under test sends; an expiry is spoiled by `lost_expires`.
POSTS = "^/v1/(customers$|checkout/sessions$|subscriptions/|subscription_schedules|billing_portal/|refunds$|.+balance_)"
ANSWERED = """
    SELECT checkouts.id, checkouts.number, checkouts.status, checkouts.plan, attempts.session_id
    FROM checkouts LEFT JOIN attempts ON attempts.nonce = checkouts.nonce ORDER BY checkouts.number
"""
HOURS_A_DAY, HOURS_A_MONTH = 25, 32 * 24


class Surroundings(World):
    """A world in which every port stops, and things happen."""

    def __init__(self, database: SteppedDatabase, raw: sqlite3.Connection, schedule: Schedule, scene: Scene) -> None:
        self.scene, self.schedule, self.raw = scene, schedule, raw
        clock, queue, ports = MovableClock(), SteppedQueue(), {}
        if scene.ports:
            clock = ports["clock"] = SteppedClock()
            ports["queue"] = queue
        self.leases = SteppedLocks(schedule, lapses=scene.lapses)
        price = f"price_kiloclaw_{scene.lacks}" if scene.lacks else None
        super().__init__(database, clock=clock, queue=queue, locks=self.leases, lacks=price)
        for port in (database, *ports.values()):
            port.schedule = schedule
        self.stepped = SteppedStripe(self.stripe, schedule)
        self.stripe = self.stepped  # type: ignore[assignment]  # a proxy
        self.gone: dict[str, int] = {}  # expired by hand, when that many checkouts had arrived
        self.ended_by_person: set[str] = set()  # sessions that a person has had expired
        self.went_back = False
        self.delivered: set[str] = set()  # events that were answered
        self.tried: set[str] = set()
        self.answered: dict[str, str] = {}  # checkout id -> the session it was answered with

    def break_things(self) -> None:
        """From here on things go wrong."""
        scene, faults = self.scene, self.sandbox.faults
        self.schedule.crashes, self.stepped.lossy = scene.crashes, scene.lossy
        if scene.saved_500:
            kind = self.schedule.random.choice(("save_500_with_effect", "save_500_without_effect"))
            faults.add(kind, method="POST", path=POSTS, times=scene.saved_500)
        if scene.lost_expires:
            faults.add("drop_before", method="POST", path="/expire$", times=scene.lost_expires)
        if scene.busy:
            status = self.schedule.random.choice((409, 429))
            faults.add("status", method="POST", path=POSTS, status=status, times=scene.busy)
        if scene.lag_seconds:
            faults.add("stale_list", method="GET", path="/v1/", seconds=scene.lag_seconds, times=None)

    def calm(self) -> None:
        """From here on nothing goes wrong any more."""
        self.stepped.lossy = self.leases.lapses = 0.0

    def must(self, holds: bool, sentence: str) -> None:
        """Tell the story when it does not."""
        if not holds:
            how = self.schedule
            replay = f"explorer.run({how.seed}, {self.scene}, {how.delays}, crash_at={how.crash_at})"
            raise Broken(sentence, self.schedule.trace, replay)

    # --- time

    def time(self) -> None:
        """Time passes, five minutes at a step."""
        for _ in range(self.scene.minutes // 5):
            self.schedule.point("five minutes pass")
            self.clock.advance(minutes=5)

    def day(self) -> None:
        """Whoever sleeps now wakes a day later: keys are pruned, sessions have expired."""
        self.sleep(HOURS_A_DAY)
        if self.scene.plans:
            self.ask("standard")

    def month(self) -> None:
        """The period ends: what was cancelled is over, what was planned is there."""
        self.sleep(HOURS_A_MONTH)

    def sleep(self, hours: int) -> None:
        """So many hours at one step.

        Not while a change of a subscription is in the network, or in the hand of a worker who has looked at the
        clock: Stripe offers no way to give such a request an end (specs/subscriptions.md).
        """
        self.schedule.point(f"{hours} hours pass")
        labels = [label for name in CHANGES for label in (f"Stripe: {name}", f"{AGAIN} (a late {name}")]
        while self.schedule.in_hand(*labels):
            self.schedule.point(f"{AGAIN} ({hours} hours pass)")
        if self.schedule.in_hand("Stripe:", "a write", "a read", "the clock"):
            self.schedule.met["somebody sleeps for a day in the middle of a step"] += 1
        before = len(list(self.sandbox.store.all("idempotency_key")))
        self.clock.advance(hours=hours)
        self.sandbox.tick()
        self.schedule.met["idempotency keys are pruned"] += bool(before)

    # --- Stripe's side

    def webhooks(self) -> None:
        """Stripe delivers what has happened, and a worker works it."""
        for _ in range(3):
            self.deliver()
            self.schedule.point(f"{AGAIN} (webhooks)")

    def deliver(self) -> None:
        """Every event that nobody answered yet, the newest first; then whatever of them is due."""
        places: dict[str, Any] = {"database": self.database, "queue": self.queue, "clock": self.clock}
        for event in self.objects("event"):
            if event["id"] not in self.delivered:
                self.schedule.point(f"Stripe delivers {event['type']}")
                self.schedule.met["an event is delivered again"] += event["id"] in self.tried
                self.tried.add(event["id"])
                body, header = deliver(event, at=self.clock.time)
                with contextlib.suppress(InvalidSignature):  # its receiver slept for minutes: Stripe sends it again
                    receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **places)
                    self.delivered.add(event["id"])
        jobs = [job for job in self.queue.sent if isinstance(job, WorkEvents)]
        self.queue.sent = [job for job in self.queue.sent if job not in jobs]
        if jobs:
            work_due(stripe=self.stripe, catalog=self.catalog, **places)

    def sweep_sessions(self) -> None:
        """Reconciling looks at every customer, twice."""
        for _ in range(2):
            self.schedule.point(f"{AGAIN} (session sweep)")
            for customer in self.objects("customer"):
                places: dict[str, Any] = {"database": self.database, "stripe": self.stripe, "locks": self.leases}
                with contextlib.suppress(StripeUnclear):
                    expire_orphaned_sessions(customer["id"], catalog=self.catalog, **places)

    def remedy(self) -> None:
        """DUPLICATE_POLICY=cancel_newest, twice."""
        for _ in range(2):
            for (id_,) in self.raw.execute("SELECT id FROM incidents").fetchall():
                places: dict[str, Any] = {"database": self.database, "stripe": self.stripe, "locks": self.leases}
                places |= {"queue": self.queue, "clock": self.clock, "catalog": self.catalog}
                remedy_duplicates(id_, RemedyContext(cancels=True, **places))
            self.queue.sent = [job for job in self.queue.sent if not isinstance(job, RemedyDuplicates)]
            self.schedule.point(f"{AGAIN} (remedy)")

    def flush(self) -> None:
        """Redis is empty: no lock (there is none here), no message."""
        self.schedule.point("Redis is flushed")
        self.queue.sent.clear()
        self.schedule.met["Redis is flushed"] += 1

    # --- people

    def dashboard(self) -> None:
        """Somebody expires what is open."""
        self.schedule.point("the Dashboard expires what is open")
        for session in self.sessions("open"):
            gone = self.sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire")
            if gone.status == 200:  # lost expires may be the Dashboard's, too
                self.gone[session["id"]] = self.raw.execute("SELECT max(number) FROM checkouts").fetchone()[0]

    def expire(self) -> None:
        """A person has what is open expired, by the command."""
        for _ in range(3):
            self.schedule.point("a person looks for an open page")
            for checkout_id, *_ in self.raw.execute(ANSWERED).fetchall():
                with contextlib.suppress(NotOpen, NotFound, StaleWrite):
                    expiry = begin_expiry(checkout_id, database=self.database, queue=self.queue, clock=self.clock)
                    self.ended_by_person.add(expiry.session_id)

    def restore(self) -> None:
        """The ledger goes back in time; Stripe does not."""
        self.schedule.point("a backup is taken")
        backup = sqlite3.connect(":memory:", check_same_thread=False)
        self.raw.backup(backup)
        self.schedule.point("the backup is put back")
        backup.backup(self.raw)
        backup.close()
        self.clock.advance(minutes=1)  # nobody puts one back faster than Stripe's lists catch up
        # What the old ledger had answered was answered then. Its URLs may be dead by now; the next pass sees to it.
        self.went_back = True
        self.schedule.met["a backup is put back"] += 1
        self.answered = {row[0]: row[4] for row in self.raw.execute(ANSWERED) if row[2] == CheckoutStatus.OPEN}

    def legacy_session(self) -> str:
        """An open session of an earlier system: tagged, without a nonce, and its customer is known to us."""
        customer = str(self.sandbox.request("POST", "/v1/customers", {}).body["id"])
        claim_customer("user_1", customer, database=self.database, clock=self.clock)
        made = {"mode": "subscription", "customer": customer, "success_url": "https://old.example"}
        items = [{"price": self.catalog.plans["standard"].price, "quantity": 1}]
        made |= {"line_items": items, "metadata": {"type": self.catalog.product}}
        return str(self.sandbox.request("POST", "/v1/checkout/sessions", made).body["id"])

    def count_troubles(self) -> None:
        """What Stripe's side of the run says about what went wrong."""
        met = self.schedule.met
        for one in self.sandbox.log:
            if one["fault"]:
                met[_FAULTS.get(one["fault"], f"Stripe answers {one['status']}")] += 1
            if one["replayed"]:
                met["Stripe replays a saved 500" if one["status"] == 500 else "Stripe replays an old answer"] += 1
        by_clock = (one for one in self.sessions("expired") if one["id"] not in {*self.stepped.expired, *self.gone})
        met["a session expires by Stripe's clock"] += sum(1 for _ in by_clock)


_FAULTS = {
    "save_500_with_effect": "a 500 is saved, and it was executed",
    "save_500_without_effect": "a 500 is saved, and nothing was done",
    "drop_before": "a request never arrives",
    "stale_list": "a list lags",
}
# What every search has to meet before anybody may call it one.
TROUBLES = (
    "a process dies",
    "an event is delivered again",
    "executed, the answer is lost",
    "executed late",
    "executed late, after a successor",
    *_FAULTS.values(),
    "Stripe replays a saved 500",
    "Stripe replays an old answer",
    "Stripe answers 409",
    "Stripe answers 429",
    "idempotency keys are pruned",
    "somebody sleeps for a day in the middle of a step",
    "a session expires by Stripe's clock",
    "a lease lapses",
    "a lock is taken",
    "Redis is flushed",
    "a backup is put back",
    "a buyer pays",
    "a buyer authenticates and pays",
    "a buyer authenticates too late",
    "a bank returns a refund",
    "credit is given back",
    "a customer is taken over",
)
