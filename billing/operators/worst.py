"""Troubles: what is wrong now, the worst first, each in one sentence with the command that mends it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.coordination.jobs import QUEUES
from billing.operators.presence import Process

# A buyer waits 3 s at the page; after a minute it is no longer "busy just now".
CHECKOUT_WAITS = timedelta(minutes=1)
EVENT_WAITS = timedelta(minutes=5)
CHANGE_WAITS = timedelta(minutes=10)
NEED = {
    "checkout": "buyers wait for payment pages",
    "webhooks": "access is not updated",
    "maintenance": "nobody sweeps or reconciles",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, and what to run."""

    sentence: str
    command: str


def troubles(summary: dict[str, Any], there: Sequence[Process]) -> list[Trouble]:
    """Everything that a person should do something about; `summary` is the report's."""
    return list(_troubles(summary, [process for process in there if process.is_there]))


def _troubles(summary: dict[str, Any], there: Sequence[Process]) -> Iterator[Trouble]:
    now: datetime = summary["at"]
    taken = {queue for process in there if process.kind == "worker" for queue in process.queues}
    for queue in QUEUES:
        if queue not in taken:
            command = f"onelane worker --queues {queue}"
            yield Trouble(f"No worker takes the queue {queue}: {NEED[queue]}.", command)
    if _older(summary["checkouts"].get("oldest_pending_at"), now, CHECKOUT_WAITS):
        yield Trouble("A buyer has waited for a payment page for more than a minute.", "onelane locks list")
    if _older(summary["events"].get("oldest_pending_at"), now, EVENT_WAITS):
        yield Trouble("An event has waited for more than five minutes.", "onelane events list --status pending")
    if _older(summary["messages"].get("oldest_pending_at"), now, CHANGE_WAITS):
        yield Trouble("The application does not take changes.", "onelane notifications test")
    if given_up := summary["messages"].get("dead"):
        command = "onelane notifications recover --since 7d --dry-run"
        yield Trouble(f"{given_up:,} changes were given up: the application does not know them.", command)
    if dead := summary["events"].get("dead"):
        yield Trouble(f"{dead:,} events were given up.", "onelane dead list")
    if opened := sum(summary["incidents"].values()):
        yield Trouble(f"{opened:,} incidents wait for a person.", "onelane incidents list")
    if not any(process.kind == "beat" for process in there):
        yield Trouble("Beat does not run: what a lost message left behind waits.", "onelane beat")
    if not any(process.kind == "web" for process in there):
        yield Trouble("No web runs: nobody takes deliveries and checkouts.", "onelane web")


def _older(moment: datetime | None, now: datetime, age: timedelta) -> bool:
    return moment is not None and now - moment > age
