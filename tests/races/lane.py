"""One lane in a scene: who acts, what goes wrong, and what must be true after every step and at rest (I1 to I6)."""

from collections.abc import Callable
from typing import Any

from billing.errors import NotFound
from billing.maintenance.sweep import sweep
from billing.models import CheckoutStatus
from billing.subscriptions.projection import is_live
from sandbox.errors import ApiError
from tests.races.changing import Changing
from tests.races.schedule import AGAIN, Actor
from tests.races.surroundings import ANSWERED

UNFINISHED = """
    SELECT (SELECT count(*) FROM checkouts WHERE status = 'pending')
         + (SELECT count(*) FROM lanes WHERE state IN ('creating', 'closing'))
         + (SELECT count(*) FROM operations WHERE status = 'pending')
         + (SELECT count(*) FROM events WHERE status = 'pending')
"""


class Lane(Changing):
    """One lane whose every step the schedule decides, and what must be true of it at any time."""

    given: set[str]  # the sessions whose URL a buyer has read

    def play(self) -> None:
        """Set the scene, run it, look at the end."""
        scene, actors = self.scene, []
        self.given = set()
        if scene.legacy:  # before there was a lane
            actors.append(Actor("payer of old", self.payer(self.legacy_session())))
            self.clock.advance(minutes=1)  # lists show it by now: what nobody can see yet, nobody can expire
        self.subscribe()
        if scene.taken_over:
            self.take_over()
        elif scene.opened:
            view = self.served("standard")
            self.given.add(str(view.session_id))
            if scene.pays:
                actors.append(Actor("payer", self.payer(str(view.session_id))))
        elif not scene.subscribed:
            self.ask("standard")  # a checkout that nobody looks at
        actors += self.others()
        row = [Actor(f"buyer {number} ({plan})", self.buyer(plan)) for number, plan in enumerate(scene.plans)]
        row += [Actor(f"subscriber {number} ({wish})", self.wisher(wish)) for number, wish in enumerate(scene.wishes)]
        row.insert(1, Actor("worker A", self.worker))
        row.insert(3, Actor("worker B", self.worker))
        if scene.asked:  # else their bank has asked only when everything is over, in most schedules
            row = [actor for actor in actors if actor.name == "payer"] + row
            actors = [actor for actor in actors if actor not in row]
        self.break_things()
        self.schedule.after_step.append(self.check)
        self.schedule.run(*row, *actors)
        self.calm()
        self.check_at_rest()
        self.count_troubles()

    def others(self) -> list[Actor]:
        """Whoever else is in the scene."""
        scene = self.scene
        extras = {
            "time": (scene.minutes, self.time),
            "a day": (scene.day, self.day),
            "a month": (scene.month, self.month),
        }
        extras |= {"dashboard": (scene.dashboard, self.dashboard), "operator": (scene.restored, self.restore)}
        extras |= {"webhooks": (scene.webhooks, self.webhooks), "session sweep": (scene.sweeps, self.sweep_sessions)}
        extras |= {"person": (scene.person, self.expire)}
        extras |= {"remedy A": (scene.duplicate, self.remedy), "remedy B": (scene.duplicate, self.remedy)}
        extras |= {"Redis": (scene.flushed, self.flush), "bank": (scene.refund_fails, self.bank)}
        # Worker C was not there yet when the day began.
        extras |= {"worker C": (scene.day or scene.month, self.worker)}
        return [Actor(name, run) for name, (wanted, run) in extras.items() if wanted]

    # --- who acts

    def worker(self) -> None:
        """A worker that is woken a few times, a second apart: whoever still arrives is not waited for any more."""
        for _ in range(4):
            self.clock.advance(seconds=1)
            if self.scene.plans or not self.scene.subscribed:
                self.work_lane(1)
            if self.scene.wishes:
                self.work_operations(1)
            if self.scene.taken_over:
                self.sync_taken_over()
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
        if label == "leaves" or self.session(session_id)["status"] != "open":
            return
        if self.scene.asked:
            self.authenticate(session_id)
        else:
            self.sandbox.pay(session_id)
            self.schedule.met["a buyer pays"] += 1

    def authenticate(self, session_id: str) -> None:
        """The buyer's bank asks, and their answer may come when the session is over."""
        self.sandbox.challenge(session_id)
        self.schedule.point("answers their bank")
        try:
            self.sandbox.authenticate(session_id)
            self.schedule.met["a buyer authenticates and pays"] += 1
        except ApiError:
            self.schedule.met["a buyer authenticates too late"] += 1

    # --- what must hold

    def check(self) -> None:
        """I1, I2 and I4, and what must hold of operations, after every step."""
        live = [one for one in self.objects("subscription") if is_live(one["status"])]
        self.must(
            len(live) <= 1 + (self.scene.duplicate or self.scene.second), f"there are {len(live)} live subscriptions"
        )
        self.must(bool(live) or not self.scene.duplicate or self.scene.month, "the last subscription was canceled")
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
            wanted = newest in self.ended_by_person  # a person had it expired
            self.must(wanted or newest not in self.stepped.expired, "the newest checkout's session was expired")
        self.check_changes()
        self.check_money()

    def check_at_rest(self) -> None:
        """I1, I3 and I5, once everybody is done and the sweep has had its turns."""
        if self.scene.restored:
            self.sandbox.faults.clear()
            self.clock.advance(minutes=1)
            self.sweep_sessions()  # what the backup did not know
            self.must(len(self.sessions("open")) <= 1, "an orphaned session was left after the sweep")
            self.ask("standard")
        for _ in range(12):
            if self.is_quiet():
                break
            self.clock.advance(seconds=61)
            self.work_lane(1)
            if self.scene.wishes:
                self.work_operations(1)
                self.check_changes()
            if self.available:
                sweep(database=self.database, queue=self.queue, clock=self.clock)
                self.deliver()
            if self.scene.duplicate:
                self.remedy()
            if self.scene.taken_over:
                self.sync_taken_over()
        if self.scene.lag_seconds and len(self.sessions("open")) > 1:
            # Of a creation that failed and was executed, while lists lagged for longer than LOOK_AGAIN: nobody has its
            # address (`check`), and I1 lets it stay until the next maintenance run.
            self.clock.advance(seconds=self.scene.lag_seconds + 1)
            self.sweep_sessions()
        self.must(len(self.sessions("open")) <= 1, f"there are {len(self.sessions('open'))} open sessions")
        # A customer has no expires_at: one made by a worker that slept for a day stays, unused, beside the right one.
        self.must(len(self.objects("customer")) == 1 or self.scene.day, "there is not exactly one customer")
        owners = {one["customer"] for one in self.sessions()}
        self.must(len(owners) <= 1, f"sessions were made for {len(owners)} customers")
        paid = [one for one in self.objects("charge") if one["paid"]]
        done = [one for one in self.sessions("complete") if one["payment_status"] == "paid"]
        before = self.scene.subscribed or self.scene.taken_over
        self.must(bool(before) or len(paid) == len(done), "money was taken for a session that is not complete")
        rows = self.raw.execute(ANSWERED).fetchall()
        for _, _, status, plan, _ in rows:
            self.must(status != CheckoutStatus.PENDING, "a checkout is stuck")
            self.must(status != CheckoutStatus.FAILED or plan == self.scene.lacks, "a good checkout failed")
        if rows:
            newest = self.view(rows[-1][0]).status
            self.must(newest is not CheckoutStatus.SUPERSEDED, "the newest checkout was superseded")
        self.check()
        self.check_changes_at_rest()
        self.check_money_at_rest()
        self.check_taken_over()
        if (self.scene.webhooks or before) and not self.went_back:  # what a backup forgot is for reconciling to find
            shown = dict(self.raw.execute("SELECT subscription_id, status FROM subscriptions").fetchall())
            real = {one["id"]: one["status"] for one in self.objects("subscription")}
            self.must(shown == real, f"the projection shows {shown}, Stripe {real}")

    @property
    def available(self) -> bool:
        """Whether Stripe's events arrive."""
        return self.scene.webhooks or self.scene.subscribed

    def is_quiet(self) -> bool:
        """Whether nothing is left to be done (what is being remedied has its rounds in any case)."""
        told = not self.available or all(event["id"] in self.delivered for event in self.objects("event"))
        told = told and (not self.scene.taken_over or self.all_fetched())
        told = told and (not self.scene.duplicate or self.nothing_moves())
        return told and self.raw.execute(UNFINISHED).fetchone() == (0,)

    def session(self, session_id: str) -> dict[str, Any]:
        """One session as Stripe has it."""
        found = self.sandbox.session(session_id)
        assert found is not None
        return found
