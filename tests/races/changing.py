"""Operations in a scene: buyers who cancel, reactivate, switch, take it back and open the portal (SUB-30 to SUB-39).

A lane's operations are worked one after the other, in the order in which they came. So what each of them ends as, and
what Stripe looks like afterwards, is known beforehand (`Wanted`), whatever went wrong in between: that is what every
schedule has to come to.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from billing.errors import NoSubscription, NotFound
from billing.models import OperationStatus
from billing.operations.calls import RUNNING, Kind
from billing.operations.requests import read_operation, record_operation
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.projection import is_live
from billing.subscriptions.sync import sync_customer
from tests.races.money import Money
from tests.races.ports import SteppedDatabase
from tests.races.scene import Scene
from tests.races.schedule import AGAIN, Schedule
from tests.support.checkout_world import ORIGIN
from tests.support.operations_world import is_ending

WISHES: dict[str, tuple[Kind, dict[str, str]]] = {
    "cancel": (Kind.CANCEL, {}),
    "reactivate": (Kind.REACTIVATE, {}),
    "switch": (Kind.SWITCH, {"plan": "commit"}),
    "undo": (Kind.UNDO_SWITCH, {}),
    "portal": (Kind.PORTAL, {"return_url": f"{ORIGIN}/account"}),
}
EFFECTS = {  # the last write of each: who sees it has what they wanted
    Kind.CANCEL: "update_subscription",
    Kind.REACTIVATE: "update_subscription",
    Kind.SWITCH: "update_schedule",
    Kind.UNDO_SWITCH: "release_schedule",
    Kind.PORTAL: None,
}
ROWS = "SELECT number, id, kind, status, call, error, arrived_at FROM operations ORDER BY number"


@dataclass(frozen=True)
class Row:
    """An operation as the ledger has it."""

    number: int
    id: str
    kind: Kind
    status: OperationStatus
    call: dict[str, Any] | None
    code: str | None
    arrived_at: str

    @property
    def ended(self) -> bool:
        """Whether its buyer has an answer."""
        return self.status is not OperationStatus.PENDING


@dataclass(frozen=True)
class Wanted:
    """A subscription to the standard plan, as a buyer's operations leave it when nothing ever goes wrong."""

    ending: bool = False
    scheduled: str | None = None

    def after(self, kind: Kind, *, lacks: str | None) -> tuple["Wanted", str | None]:
        """What the next operation makes of it, and the code with which it is refused or fails, if it is."""
        match kind:
            case Kind.CANCEL:
                return (self, "already_canceling") if self.ending else (Wanted(ending=True), None)
            case Kind.REACTIVATE:
                return Wanted(scheduled=self.scheduled), None
            case Kind.SWITCH if self.ending:
                return self, "already_canceling"
            case Kind.SWITCH:
                return (self, "stripe_refused") if lacks == "commit" else (Wanted(scheduled="commit"), None)
            case Kind.UNDO_SWITCH:
                return Wanted(ending=self.ending), None
            case Kind.PORTAL:
                return self, None


class Changing(Money):
    """What buyers want to be changed, and what must hold of it."""

    def __init__(self, database: SteppedDatabase, raw: sqlite3.Connection, schedule: Schedule, scene: Scene) -> None:
        super().__init__(database, raw, schedule, scene)
        self.ended: dict[int, Row] = {}
        self.changed: dict[int, list[str]] = {}  # what an operation changed at Stripe
        self.wrong: list[str] = []  # effects out of turn
        self.checked: set[int] = set()
        self.promised: dict[str, bool] = {}  # whether its buyer was shown a subscription when they asked
        self.stepped.watch(self.shape, self.took_effect)

    def subscribe(self) -> None:
        """A buyer who has paid, and whom the projection knows; another subscription, too, in scenes of duplicates."""
        if not self.scene.subscribed:
            return
        view = self.served("standard")
        paid = self.sandbox.pay(str(view.session_id))
        if self.scene.duplicate or self.scene.second:
            self.buy_again(paid["customer"])
        places: dict[str, Any] = {"database": self.database, "stripe": self.stripe, "clock": self.clock}
        sync_customer(
            paid["customer"],
            SyncContext(catalog=self.catalog, queue=self.queue, **places),
            subscriptions=[paid["subscription"]],
        )
        self.delivered |= {event["id"] for event in self.objects("event")}
        if not self.scene.lag_seconds:
            self.clock.advance(hours=1)

    def wisher(self, wish: str) -> Callable[[], None]:
        """Somebody who presses a button and looks a few times what became of it."""

        def run() -> None:
            kind, request = WISHES[wish]
            places: dict[str, Any] = {"database": self.database, "clock": self.clock}
            shown = self.shown()
            try:
                made = record_operation(
                    kind, request, user_id="user_1", idempotency_key=None, queue=self.queue, catalog=self.catalog,
                    redirect_origins=[ORIGIN], **places,
                )  # fmt: skip
            except NoSubscription:
                return self.must(not self.scene.subscribed, "a subscriber was told that they are none")
            self.promised.setdefault(made.operation_id, shown)
            for _ in range(4):
                self.schedule.point(f"{AGAIN} ({wish})")
                try:
                    view = read_operation(made.operation_id, user_id="user_1", **places)
                except NotFound:
                    return None  # a backup was put back that does not know this operation
                if view.status is not OperationStatus.PENDING:
                    return None
            return None

        return run

    def rows(self) -> list[Row]:
        """Every operation, oldest first."""
        made = []
        for number, id_, kind, status, call, error, arrived_at in self.raw.execute(ROWS).fetchall():
            code = (json.loads(error or "null") or {}).get("code")
            values = (Kind(kind), OperationStatus(status), json.loads(call or "null"), code, arrived_at)
            made.append(Row(number, id_, *values))
        return made

    def shown(self) -> bool:
        """Whether the buyer reads that they have a subscription."""
        return any(is_live(status) for (status,) in self.raw.execute("SELECT status FROM subscriptions").fetchall())

    # --- what must hold

    def shape(self) -> Any:
        """What operations can change: a change of this is an effect."""
        rest = ("cancel_at_period_end", "cancel_at", "schedule", "status")
        found = [(one["id"], *(one[name] for name in rest)) for one in self.objects("subscription")]
        schedules = [(one["id"], one["status"], str(one["phases"])) for one in self.objects("subscription_schedule")]
        return found, schedules

    def took_effect(self, name: str, key: str) -> None:
        """Only what the oldest pending operation holds may change anything (SUB-30), and each write once."""
        rows = self.rows()
        oldest = next((row for row in rows if not row.ended), None)
        if oldest is None or oldest.call is None or oldest.call["key"] != key:
            held = any(row.call and row.call["key"] == key for row in rows)
            self.wrong.append(f"{name} took effect {'out of turn' if held else 'though no row holds it'}")
            return
        names = self.changed.setdefault(oldest.number, [])
        if name in names and not (self.scene.outsiders or self.scene.second):
            self.wrong.append(f"{name} took effect twice")
        names.append(name)

    def check_changes(self) -> None:
        """After every step: effects in turn and planned before, ends for good and together with what shows them."""
        if not self.scene.wishes or self.went_back:
            return
        rows = self.rows()
        self.must(not self.wrong, "; ".join(self.wrong))
        pending = [row for row in rows if not row.ended]
        self.must(all(row.call is None for row in pending[1:]), "a later operation was begun first")
        ended = [row for row in rows if row.ended]
        for row in ended:
            known = self.ended.setdefault(row.number, row)
            self.must(known == row, "an operation ended twice")
        if ended and ended[-1].number not in self.checked:
            self.checked.add(ended[-1].number)
            self.check_end(ended[-1])

    def check_end(self, row: Row) -> None:
        """At the commit that ends it: the projection and Stripe agree with the answer."""
        shown = self.raw.execute("SELECT cancel_at_period_end, scheduled_plan, plan, status FROM subscriptions")
        ending, scheduled, plan, _ = next((one for one in shown.fetchall() if is_live(one[3])), (0, None, None, None))
        succeeded = row.status is OperationStatus.SUCCEEDED
        had = self.changed.get(row.number, [])
        if row.kind is Kind.SWITCH and not succeeded:
            left = "create_schedule" in had and self.running()
            self.must(not left, "a switch that did not succeed left its schedule")
        self.must(succeeded or EFFECTS[row.kind] not in had, "an operation had its effect and did not succeed")
        live = any(is_live(one["status"]) for one in self.objects("subscription"))
        if row.code == "no_subscription":
            wrong = self.promised.get(row.id, False) and live and not self.scene.outsiders
            self.must(not wrong, "a subscriber was told that they have no subscription")
        if not succeeded or not live or self.scene.outsiders:
            return
        holds = {
            Kind.CANCEL: bool(ending) and scheduled is None and not self.running(),
            Kind.REACTIVATE: not ending,
            Kind.SWITCH: "commit" in (scheduled, plan),
            Kind.UNDO_SWITCH: scheduled is None,
        }
        self.must(holds.get(row.kind, True), f"{row.kind} succeeded, and the projection does not show it")
        real = all(is_ending(one) for one in self.objects("subscription") if is_live(one["status"]))
        self.must(bool(ending) == real, "the projection that ends an operation is not what Stripe says")

    def check_changes_at_rest(self) -> None:
        """Nothing is stuck, and what was asked for in this order is what there is."""
        rows = self.rows()
        for row in rows:
            self.must(row.ended, f"an operation is stuck: {row.kind}")
        if self.scene.subscribed and not self.scene.outsiders and not self.went_back:
            self.check_story(rows)

    def check_story(self, rows: Sequence[Row]) -> None:
        """The answers and the end are those of a world in which nothing goes wrong."""
        wanted = Wanted()
        for row in rows:
            wanted, code = wanted.after(row.kind, lacks=self.scene.lacks)
            self.must(row.code == code, f"{row.kind} ended with {row.code or 'success'} instead of {code or 'success'}")
        ending = {is_ending(one) for one in self.objects("subscription") if is_live(one["status"])}
        self.must(ending == {wanted.ending}, "the last wish is not what Stripe has")
        prices = [one["phases"][-1]["items"][0]["price"] for one in self.running()]
        coming = [self.catalog.plans[wanted.scheduled].price] if wanted.scheduled else []
        self.must(prices == coming, f"the schedules bring {prices} instead of {coming}")
        scheduled = self.raw.execute("SELECT scheduled_plan FROM subscriptions").fetchone()[0]
        self.must(scheduled == wanted.scheduled, f"the projection says that {scheduled} comes")

    def running(self) -> list[dict[str, Any]]:
        """Schedules that govern something."""
        return [one for one in self.objects("subscription_schedule") if one["status"] in RUNNING]
