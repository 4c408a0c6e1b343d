"""The real checkout code under every kind of interleaving, without any customer lock.

Workers, buyers who pay whatever URL they were given, newer requests, crashes, lost and late answers: in an order
that a seed decides. The invariants are looked at after every step and once more at rest. `SEEDS=500` explores more.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from billing import migrate
from billing.database import Database
from billing.models import CheckoutStatus, checkouts
from billing.projection import is_live
from tests.checkout_world import World
from tests.races.schedule import Actor, Schedule, SteppedDatabase, SteppedStripe
from tests.races.unlocked import NoLocks

SEEDS = int(os.environ.get("SEEDS", "16"))  # for each of the twelve scenes; a run takes 65 ms
PARTS = 4  # so that two cores share the work


class Lane(World):
    """One lane whose every step the schedule decides, and what must be true of it at any time."""

    def __init__(self, database: SteppedDatabase, schedule: Schedule) -> None:
        super().__init__(database, locks=NoLocks())
        self.schedule = schedule
        database.schedule = schedule
        self.stripe = self.stepped = SteppedStripe(self.stripe, schedule)
        self.given: dict[str, int] = {}  # session id -> the newest checkout that was given its URL
        schedule.after_step.append(self.check)

    def worker(self) -> None:
        """A worker that is woken a few times."""
        for _ in range(3):
            self.work_lane(1)

    def buyer(self, plan: str, *, pays: bool) -> Callable[[], None]:
        """Somebody who asks, looks a few times, and pays what they are given or leaves."""

        def run() -> None:
            checkout_id = self.ask(plan)
            for _ in range(6):
                view = self.view(checkout_id)
                if view.url is None:
                    self.schedule.point(f"looks again ({view.status})")
                    continue
                self.note_given(str(view.session_id), checkout_id)
                self.schedule.point("pays" if pays else "leaves")
                if pays and self.sandbox.session(str(view.session_id))["status"] == "open":
                    self.sandbox.pay(str(view.session_id))
                return

        return run

    def payer(self, session_id: str) -> Callable[[], None]:
        """Somebody whose payment page has been open for a while."""

        def run() -> None:
            self.schedule.point("pays on a page that is open already")
            if self.sandbox.session(session_id)["status"] == "open":
                self.sandbox.pay(session_id)

        return run

    def note_given(self, session_id: str, checkout_id: str) -> None:
        """I4: nobody is given the URL of a session that has been expired."""
        session = self.sandbox.session(session_id)
        assert session["status"] != "expired", f"was given an expired session\n{self.story()}"
        with self.database.engine.connect() as connection:
            number = connection.scalar(sa.select(checkouts.c.number).where(checkouts.c.id == checkout_id))
        self.given[session_id] = max(self.given.get(session_id, 0), number)

    def check(self) -> None:
        """I1 and I2, after every step."""
        live = [one for one in self.objects("subscription") if is_live(one["status"])]
        assert len(live) <= 1, f"{len(live)} live subscriptions\n{self.story()}"
        published = [one["id"] for one in self.sessions("open") if one["id"] in self.given]
        assert len(published) <= 1, f"{len(published)} open sessions were given out\n{self.story()}"
        if not live:
            self.check_expired()

    def check_at_rest(self) -> None:
        """I1 and I3, once everybody is done and the sweep has had its turns."""
        for _ in range(30):
            self.clock.advance(seconds=61)
            self.work_lane(1)
        assert len(self.sessions("open")) <= 1, f"{len(self.sessions('open'))} open sessions\n{self.story()}"
        with self.database.engine.connect() as connection:
            waiting = sa.select(checkouts.c.id).where(checkouts.c.status == CheckoutStatus.PENDING)
            assert connection.scalars(waiting).all() == [], f"a checkout is stuck\n{self.story()}"
            newest = connection.scalar(sa.select(checkouts.c.id).order_by(checkouts.c.number.desc()).limit(1))
        shown = self.view(newest).status
        assert shown is not CheckoutStatus.SUPERSEDED, f"the newest checkout was superseded\n{self.story()}"
        self.check()

    def check_expired(self) -> None:
        """I4: what was given to a newer checkout is never expired for an older one."""
        for session_id, number in self.given.items():
            if self.sandbox.session(session_id)["status"] == "expired":
                with self.database.engine.connect() as connection:
                    last = connection.scalar(sa.select(sa.func.max(checkouts.c.number)))
                assert number < last, f"the newest checkout's session was expired\n{self.story()}"

    def story(self) -> str:
        """What happened, to read and to run again."""
        return "\n".join([f"seed {self.schedule.seed}", *self.schedule.trace])


@pytest.fixture
def explore(tmp_path: Path) -> Callable[..., None]:
    """Run one seed of a scene in a fresh ledger."""
    template = tmp_path / "template.sqlite3"
    migrated = Database(f"sqlite:///{template}")
    migrate.upgrade(migrated)
    migrated.close()

    def explore(seed: int, *, plans: list[str], crashes: int, lossy: float) -> None:
        path = tmp_path / f"{seed}.sqlite3"
        shutil.copy(template, path)
        database = SteppedDatabase(f"sqlite:///{path}")
        sa.event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        schedule = Schedule(seed, crashes=crashes)
        lane = Lane(database, schedule)
        actors = [Actor("worker A", lane.worker), Actor("worker B", lane.worker)]
        if seed % 2:  # a buyer was given a session before all this, and may pay it at any moment
            view = lane.served("standard")
            lane.note_given(str(view.session_id), view.id)
            actors.append(Actor("payer", lane.payer(str(view.session_id))))
        else:
            lane.ask("standard")  # a checkout that nobody looks at
        actors += [Actor(f"buyer {n} ({p})", lane.buyer(p, pays=seed % 3 != 0)) for n, p in enumerate(plans)]
        lane.stepped.lossy = lossy
        schedule.run(*actors)
        lane.stepped.lossy = 0
        lane.check_at_rest()
        database.close()
        path.unlink()

    return explore


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("crashes", [0, 2])
@pytest.mark.parametrize("lossy", [0.0, 0.25])
@pytest.mark.parametrize("plans", [["standard", "standard"], ["standard", "commit"], ["commit", "standard", "commit"]])
def test_no_interleaving_breaks_the_invariants(
    explore: Callable[..., None], part: int, crashes: int, lossy: float, plans: list[str]
) -> None:
    """LAN-1, LAN-2, LAN-3, LAN-5, LAN-7, LAN-9, LAN-10, LAN-18, CHK-1, CHK-6."""
    for seed in range(part, SEEDS, PARTS):
        explore(seed, plans=plans, crashes=crashes, lossy=lossy)
