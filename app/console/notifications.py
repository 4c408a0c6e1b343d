"""Notifications: the changes that the application is told, each with its tries, and how they are sent again."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request

from app.console.actions import Button, act, command_line, done, resend_now
from app.console.asked import SPANS, Asked, read_asked
from app.console.shown import page, printable
from billing.errors import InvalidRequest
from billing.operators.notifications import (
    STATES,
    MessageFilter,
    count_messages,
    list_messages,
    show_message,
)
from billing.services import Services

LIMIT = 100


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/notifications, /notification?id=…; and the POST that sends one or many again."""
    database, clock = services.database, services.clock

    @routes.get("/notifications")
    def notifications() -> Response:
        asked = replace(read_asked(request.args), type="")
        chosen = _chosen(asked)
        buttons = [_many(asked, count_messages(chosen, database=database))] if chosen.described() else []
        return page(
            "notifications.html",
            asked=asked,
            rows=list_messages(chosen, database=database, limit=LIMIT),
            most=LIMIT,
            statuses=STATES,
            spans=SPANS,
            buttons=buttons,
            done=done(services),
            command=command_line("notifications", "list", *asked.options(), reason=False),
        )

    @routes.get("/notification")
    def notification() -> Response:
        shown = show_message(printable(request.args.get("id", "")), database=database)
        return page("notification.html", shown=shown, buttons=list(_one(shown)), done=done(services))

    @routes.post("/notifications/resend")
    def resend_messages() -> Response:
        def work(_reason: str) -> str:
            if not chosen.described():
                raise InvalidRequest("Say which notifications: an empty filter is refused.")
            return resend_now(chosen, services)

        message_id = printable(request.form.get("id", ""))
        asked = read_asked(request.form, since="all")
        chosen = MessageFilter([message_id]) if message_id else _chosen(asked)
        target = chosen.described() or ""
        if message_id:
            back = "console.notification"
            return act("notifications resend", target, work, services=services, back=back, id=message_id)
        return act("notifications resend", target, work, services=services, back="console.notifications")

    def _chosen(asked: Asked) -> MessageFilter:
        if asked.status and asked.status not in STATES:
            raise InvalidRequest("There is no such status.")
        since = asked.since_at(clock.now())
        return MessageFilter(status=asked.status or None, customer_id=asked.customer or None, since=since)

    def _many(asked: Asked, count: int) -> Button:
        now = clock.now()
        return Button(
            f"Send {count:,} again",
            "console.resend_messages",
            "Each keeps its id, its contents and its place among its customer's. The receiver drops what it had.",
            command_line("notifications", "resend", *asked.options(now), "--yes"),
            asked.fields(now),
        )


def _one(shown: Mapping[str, Any]) -> Iterator[Button]:
    if shown["status"] != "erased":
        yield Button(
            "Send it again",
            "console.resend_messages",
            "It keeps its id and its contents. The receiver drops it where it had it.",
            command_line("notifications", "resend", shown["message_id"]),
            {"id": shown["message_id"]},
        )
