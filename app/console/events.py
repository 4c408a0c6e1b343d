"""Events: those of the last 24 hours by filter, failures by their error, one event, and replays of one or many."""

from typing import Any

from flask import Blueprint, Response, g, request

from app.console.actions import Button, act, command_line, done, replay_now
from app.console.asked import SPANS, Asked, read_asked
from app.console.shown import indented, page, printable
from billing.coordination.queue import while_reachable
from billing.errors import InvalidRequest
from billing.maintenance.replay import count_events
from billing.maintenance.replay_run import begin_run
from billing.maintenance.replay_store import REPLAYABLE, Count, EventFilter
from billing.models import EventStatus
from billing.operators.audit import audited
from billing.operators.events import group_failures, list_events, show_event
from billing.operators.redaction import redact
from billing.rules.words import in_number
from billing.services import Services
from billing.webhooks.process import MAX_FAILURES

LIMIT = 50
COUNTED = 50_000  # events that a page counts, within 0.1 s: more than a day has where a million came in a month
EMPTY = "Say which events: an empty filter is refused."
STATUSES = [status.value for status in EventStatus]


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/events, /dead, /events/ID and /event?id=…, /events/replay?…; and the POSTs of their buttons."""
    database, clock = services.database, services.clock

    @routes.get("/events")
    def events() -> Response:
        return listed(read_asked(request.args), "console.events", "Events")

    @routes.get("/dead")
    def dead() -> Response:
        given = read_asked(request.args, since="all")
        asked = Asked(given.type, given.customer, EventStatus.DEAD, given.since)
        return listed(asked, "console.dead", "Dead events", many(asked)[1])

    def listed(asked: Asked, here: str, title: str, button: Button | None = None) -> Response:
        chosen = asked.events(clock.now())
        before = printable(request.args.get("before", "")) or None
        rows = list_events(chosen, database=database, limit=LIMIT + 1, before=before)
        shown = [] if before or g.is_part else group_failures(chosen, database=database)
        older = {**request.args, "before": rows[LIMIT - 1]["event_id"]} if len(rows) > LIMIT else None
        return page(
            "events.html",
            title=title,
            here=here,
            asked=asked,
            rows=rows[:LIMIT],
            failures=shown,
            older=older,
            is_first=before is None,
            spans=SPANS,
            statuses=STATUSES,
            replays=button is None and _can_be_replayed(asked),
            button=button,
            command=command_line("events", "list", *asked.options(), reason=False),
        )

    @routes.get("/event")
    @routes.get("/events/<event_id>")
    def event(event_id: str | None = None) -> Response:
        return one(printable(request.args.get("id", "") if event_id is None else event_id))

    def one(event_id: str, **more: Any) -> Response:
        shown = show_event(event_id, database=database)
        buttons, noted = _buttons(shown), done(services)
        return page("event.html", shown=shown, most=MAX_FAILURES, buttons=buttons, done=noted, **more)

    @routes.post("/event/payload")
    def show_payload() -> Response:
        event_id = printable(request.form.get("id", ""))
        noted = audited(
            "events show --payload",
            target=event_id,
            reason=None,
            database=database,
            clock=clock,
            who=g.visitor.who,
        )
        with noted as note:
            found = show_event(event_id, database=database, payload=True)["payload"]
            note("shown, redacted" if found is not None else "it was pruned")
        return one(event_id, payload=indented(redact(found)), has_payload=True)

    @routes.post("/event/replay")
    def replay_event() -> Response:
        def work(reason: str) -> str:
            chosen = EventFilter(event_ids=(show_event(event_id, database=database)["event_id"],))
            return replay_now(chosen, reason, services)

        event_id = printable(request.form.get("id", ""))
        return act("events replay", event_id, work, services=services, back="console.event", id=event_id)

    @routes.get("/events/replay")
    def choose_replay() -> Response:
        asked = read_asked(request.args, since="all")
        found, button = many(asked)
        return page("replay_choice.html", asked=asked, found=found, most=COUNTED, button=button, spans=SPANS)

    def many(asked: Asked) -> tuple[Count, Button | None]:
        """What the filter chooses, and the button that replays it; None where it chooses nothing."""
        now = clock.now()
        chosen = asked.events(now)
        if not chosen.described():
            raise InvalidRequest(EMPTY)
        found = count_events(chosen, database=database, clock=clock, most=COUNTED)
        if not found.events:
            return found, None
        return found, Button(
            f"Replay {'all of them' if found.events > COUNTED else in_number(found.events, 'event')}",
            "console.replay_events",
            "Workers set them back a hundred at a time. Each asks Stripe what is true now, so nothing happens twice.",
            command_line("events", "replay", *asked.options(now), "--yes"),
            asked.fields(now),
        )

    @routes.post("/events/replay")
    def replay_events() -> Response:
        def work(reason: str) -> str:
            if not chosen.described():
                raise InvalidRequest(EMPTY)
            return f"begun (replay {begin_run(chosen, reason=reason, database=database, queue=queue, clock=clock)})"

        chosen = read_asked(request.form, since="all").events(clock.now())
        queue = while_reachable(services.queue)
        return act("events replay", chosen.in_words(), work, services=services, back="console.runs")


def _buttons(shown: dict[str, Any]) -> list[Button]:
    fields = {"id": shown["event_id"]}
    replay = Button(
        "Replay it",
        "console.replay_event",
        "It is worked again, and asks Stripe what is true now: nothing happens twice.",
        command_line("events", "replay", shown["event_id"]),
        fields,
    )
    look = Button(
        "Show its payload",
        "console.show_payload",
        "What Stripe sent, without what is personal or secret. Who looked is kept in the audit log.",
        command_line("events", "show", shown["event_id"], "--payload", reason=False),
        fields,
        asks_reason=False,
    )
    return [replay, look] if shown["status"] in REPLAYABLE else [look]


def _can_be_replayed(asked: Asked) -> bool:
    return not asked.status or asked.status in REPLAYABLE
