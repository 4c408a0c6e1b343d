"""Buttons that change something: each shows the command line that does the same, and asks why where the command does.

A button is a form. Its POST does the work inside `act`, which writes the audit log, and is led back to the page it came
from, which shows that row of the audit log: what came of it. To press twice does it twice, so what stands behind a
button must be harmless when it is repeated.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Response, g, redirect, request, url_for

from billing.coordination.jobs import Job
from billing.coordination.queue import InlineQueue, Queue
from billing.errors import InvalidRequest
from billing.operators.audit import Row, audited, read_audit
from billing.services import Services

LONGEST_REASON = 500


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
    answer = redirect(url_for(back, done=note.row_id, **values), 303)
    assert isinstance(answer, Response)
    return answer


def wake(job: Job, services: Services) -> str:
    """Wake a worker; how soon it comes, in words."""
    if services.queue.trouble() is None:
        services.queue.send(job)
        return "a worker has been told"
    return "the broker does not answer, so workers find it at their next sweep"


def queue_or_none(services: Services) -> Queue:
    """The broker; while it is away a queue that sends nothing, since the sweep wakes workers, too."""
    return services.queue if services.queue.trouble() is None else InlineQueue()


def done(services: Services) -> Row | None:
    """The row of the audit log that this page was led back to with; None without one."""
    given = request.args.get("done", "")
    if not given.isdecimal() or len(given) > 18:
        return None
    return read_audit(int(given), database=services.database)
