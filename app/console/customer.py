"""One customer: access and why, subscriptions, lane, one timeline, and the buttons that mend."""

from collections.abc import Iterator, Mapping

from flask import Blueprint, Response, request

from app.console.actions import Button, act, command_line, done, replay_now, resend_now, wake
from app.console.shown import page, span
from billing.coordination.jobs import SyncCustomers
from billing.coordination.locks import lock_name
from billing.errors import NotFound
from billing.maintenance.replay_store import EventFilter
from billing.models import LaneState
from billing.operators.customer import show_customer
from billing.operators.listing import Row
from billing.operators.notifications import MessageFilter
from billing.operators.sync_user import ask_for_sync
from billing.rules.ids import is_user_id
from billing.services import Services

LIMIT = 50  # of each kind, and in the timeline

LANE = {
    LaneState.CLOSED: "At rest, no payment page is open",
    LaneState.CREATING: "A payment page is being created",
    LaneState.OPEN: "A payment page is open",
    LaneState.CLOSING: "A payment page is being closed",
}
ENDED = "At rest, the last payment page has ended"


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/customers/USER_ID and /customer?user=…, and the POSTs of its buttons."""
    database, clock = services.database, services.clock

    def read(user_id: str) -> Row:
        return show_customer(user_id, database=database, catalog=services.catalog, clock=clock, limit=LIMIT)

    # Pages link by query: a browser would resolve the path of a user who is called "..".
    @routes.get("/customer")
    @routes.get("/customers/<path:user_id>")
    def customer(user_id: str | None = None) -> Response:
        shown = read(_user_id(request.args if user_id is None else {"user": user_id}))
        return page(
            "customer.html",
            shown=shown,
            holder=_holder(shown["lane"], services),
            buttons=list(_buttons(shown)),
            done=done(services),
            more=[
                line for line in shown["next"] if not line.startswith(command_line("customers", "sync", reason=False))
            ],
            limit=LIMIT,
            lane_in_words=_in_words(shown["lane"]),
        )

    @routes.post("/customer/compare")
    def compare() -> Response:
        def work(_reason: str) -> str:
            ask_for_sync(user_id, database=database, clock=clock)
            return f"to be fetched from Stripe: {wake(SyncCustomers(), services)}"

        user_id = _user_id(request.form)
        return act("customers sync", user_id, work, services=services, back="console.customer", user=user_id)

    @routes.post("/customer/replay")
    def replay() -> Response:
        def work(reason: str) -> str:
            chosen = EventFilter(customer_id=_customer_id(read(user_id)))
            return replay_now(chosen, reason, services)

        user_id = _user_id(request.form)
        return act("events replay", user_id, work, services=services, back="console.customer", user=user_id)

    @routes.post("/customer/resend")
    def resend_changes() -> Response:
        def work(_reason: str) -> str:
            return resend_now(MessageFilter(customer_id=_customer_id(read(user_id))), services)

        user_id = _user_id(request.form)
        return act("notifications resend", user_id, work, services=services, back="console.customer", user=user_id)


def _in_words(lane: Row | None) -> str:
    if lane is None:
        return ""
    return ENDED if lane["state"] == LaneState.OPEN and not lane["attempt"] else LANE[lane["state"]]


def _holder(lane: Row | None, services: Services) -> str:
    """Who works the lane now, by its lock: a hint, which a Redis that is away does not give."""
    held = services.locks.held() if lane else {}
    if held is None:
        return "not known, Redis does not answer"
    left = held.get(lock_name(lane["id"])) if lane else None
    return "nobody" if left is None else f"a worker, whose lock ends in {span(left)} unless it is renewed"


def _buttons(shown: Row) -> Iterator[Button]:
    user_id, customer_id = shown["user_id"], shown["customer_id"]
    if customer_id is None or shown["erased_at"]:
        return
    fields = {"user": user_id}
    yield Button(
        "Compare with Stripe now",
        "console.compare",
        "A worker fetches this customer from Stripe; what differs is corrected, and the application is told.",
        command_line("customers", "sync", user_id),
        fields,
    )
    yield Button(
        "Replay their events",
        "console.replay",
        "Every event of this customer is worked again. Each asks Stripe what is true now, so nothing happens twice.",
        command_line("events", "replay", "--customer", customer_id),
        fields,
    )
    yield Button(
        "Resend changes",
        "console.resend_changes",
        "Every change of this customer is sent to the application again, in order, under its old id.",
        command_line("notifications", "resend", "--customer", customer_id),
        fields,
    )


def _user_id(given: Mapping[str, str]) -> str:
    user_id = given.get("user", "")
    if not is_user_id(user_id):
        raise NotFound("user")
    return user_id


def _customer_id(shown: Row) -> str:
    if shown["customer_id"] is None:
        raise NotFound("Stripe customer of this user")
    return str(shown["customer_id"])
