"""Buttons that change something: each shows the command line that does the same, and asks why where the command does.

A button is a form. Its POST does the work inside `act`, which writes the audit log, and is led back to the page it came
from, which shows that row of the audit log: what came of it. To press twice does it twice, so what stands behind a
button must be harmless when it is repeated.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Response, g, request, url_for
from werkzeug.datastructures import MultiDict

from app.console.shown import see_other
from billing.coordination.jobs import Job, Notify
from billing.coordination.queue import while_reachable
from billing.errors import InvalidRequest, NotFound
from billing.maintenance.replay import replay_few
from billing.maintenance.replay_store import EventFilter
from billing.operators.audit import audited, read_audit
from billing.operators.listing import Row
from billing.operators.notifications import MessageFilter, resend
from billing.services import Services

LONGEST_REASON, LONGEST_ROW_ID = 500, 18  # characters; what every database's numbers have


@dataclass(frozen=True, slots=True)
class Button:
    """What a button says, where it leads, and the command that does the same. `fields` are sent with it."""

    label: str
    endpoint: str
    explains: str
    command: str
    fields: dict[str, str] = field(default_factory=dict)
    asks_reason: bool = True


def command_line(*words: str, reason: bool = True) -> str:
    """A command as one types it: `onelane events replay --customer cus_1 --reason '…'`."""
    return f"onelane {shlex.join(words)}" + (' --reason "…"' if reason else "")


def act(
    command: str,
    target: str,
    work: Callable[[str], str],
    *,
    services: Services,
    back: str,
    asks_reason: bool = True,
    **values: Any,
) -> Response:
    """Do the work with the reason that was given, and note it; then lead back to the page `back` with `values`.

    `work` returns what came of it. Raises InvalidRequest without a reason, and whatever the work raises, once the audit
    log has it.
    """
    reason = request.form.get("reason", "").strip()[:LONGEST_REASON]
    if asks_reason and not reason:
        raise InvalidRequest("Say why: the reason is kept in the audit log.")
    noted = audited(
        command,
        target=target,
        reason=reason or None,
        database=services.database,
        clock=services.clock,
        who=g.visitor.who,
    )
    with noted as note:
        note(work(reason))
    return see_other(url_for(back, done=note.row_id, **values))


def wake(job: Job, services: Services) -> str:
    """Wake a worker; how soon it comes, in words."""
    queue = while_reachable(services.queue)
    queue.send(job)
    if queue is services.queue:
        return "a worker has been told"
    return "the broker does not answer, so workers find it at their next sweep"


def replay_now(chosen: EventFilter, reason: str, services: Services) -> str:
    """Set a handful of events back; what came of it, in words."""
    queue = while_reachable(services.queue)
    replayed = replay_few(chosen, reason=reason, database=services.database, queue=queue, clock=services.clock)
    return f"{replayed.replayed} of {replayed.counted} (replay {replayed.replay_id})"


def resend_now(chosen: MessageFilter, services: Services) -> str:
    """Make notifications due again; how many, and how soon they go, in words."""
    return f"{resend(chosen, database=services.database, clock=services.clock):,} made due: {wake(Notify(), services)}"


def done(services: Services) -> Row | None:
    """The row of the audit log that this page was led back to with; None without one."""
    row_id = request.args.get("done", type=_row_id)
    return None if row_id is None else read_audit(row_id, database=services.database)


def read_row_id(given: MultiDict[str, str], what: str) -> int:
    """The number of a row, as an address or a form has it. Raises NotFound for `what` where it has none."""
    row_id = given.get("id", type=_row_id)
    if row_id is None:
        raise NotFound(what)
    return row_id


def _row_id(text: str) -> int:
    if not text.isdecimal() or len(text) > LONGEST_ROW_ID:
        raise ValueError(text)
    return int(text)
