"""Troubles: what is wrong now, the worst first, each in one sentence with the command that mends it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.coordination.jobs import QUEUES
from billing.operators.deliveries import Deliveries, are_refused
from billing.operators.presence import Process

# A buyer waits 3 s at the page; after a minute it is no longer "busy just now".
CHECKOUT_WAITS = timedelta(minutes=1)
EVENT_WAITS = timedelta(minutes=5)
CHANGE_WAITS = timedelta(minutes=10)
# Of a change that was refused and is tried again: the second try is some seconds later, the third some more.
CHANGE_FAILS = timedelta(minutes=1)
LIMITED_LASTS = timedelta(minutes=10)  # a 429 is over when there was none for so long (its runbook)
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


def in_short(age: timedelta) -> str:
    """`40 s`, `12 min`, `3 h`, `5 d`."""
    seconds = max(0, round(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _troubles(summary: dict[str, Any], there: Sequence[Process]) -> Iterator[Trouble]:
    now: datetime = summary["at"]
    taken = {queue for process in there if process.kind == "worker" for queue in process.queues}
    for queue in QUEUES:
        if queue not in taken:
            command = f"onelane worker --queues {queue}"
            yield Trouble(f"No worker takes the queue {queue}: {NEED[queue]}.", command)
    yield from _at_stripe(summary, now)
    if _older(summary["checkouts"].get("oldest_pending_at"), now, CHECKOUT_WAITS):
        yield Trouble("A buyer has waited for a payment page for more than a minute.", "onelane locks list")
    if _older(summary["events"].get("oldest_pending_at"), now, EVENT_WAITS):
        yield Trouble("An event has waited for more than five minutes.", "onelane events list --status pending")
    yield from _of_changes(summary["messages"], now)
    if dead := summary["events"].get("dead"):
        why = f" The last one: {error}" if (error := summary["events"].get("error")) else ""
        yield Trouble(f"{dead:,} events were given up.{why}", "onelane dead list")
    if opened := sum(summary["incidents"].values()):
        oldest = summary.get("oldest_incident")
        command = f"onelane incidents show {oldest}" if oldest else "onelane incidents list"
        kinds = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in summary["incidents"].items())
        yield Trouble(
            f"{opened:,} {'incident waits' if opened == 1 else 'incidents wait'} for a person: {kinds}.", command
        )
    if not any(process.kind == "beat" for process in there):
        yield Trouble("Beat does not run: what a lost message left behind waits.", "onelane beat")
    if not any(process.kind == "web" for process in there):
        yield Trouble("No web runs: nobody takes deliveries and checkouts.", "onelane web")


def _at_stripe(summary: dict[str, Any], now: datetime) -> Iterator[Trouble]:
    """What goes wrong between Stripe and us: deliveries that are refused, and calls that Stripe refuses."""
    seen = Deliveries(**summary.get("deliveries", {}))
    if are_refused(seen, now=now):
        since = f", and none was taken for {in_short(now - seen.last_signed_at)}" if seen.last_signed_at else ""
        sentence = f"{seen.refused:,} of Stripe's deliveries were refused{since}: {seen.why}"
        yield Trouble(sentence, "onelane doctor --read-only")
    limited = summary.get("stripe_limited")
    if limited and now - limited["last_at"] < LIMITED_LASTS:
        yield Trouble(
            f"Stripe asks us to slow down (429), the last time {in_short(now - limited['last_at'])} ago. Work is"
            " repeated by itself, buyers' first. Where it lasts, lower STRIPE_MAX_PER_SECOND, or stop what else uses"
            " the account.",
            "onelane locks list",
        )


def _of_changes(messages: dict[str, Any], now: datetime) -> Iterator[Trouble]:
    """What the application was not told."""
    if _older(messages.get("oldest_failing_at"), now, CHANGE_FAILS):
        again = f"{messages['failing']:,} are tried again"
        sentence = f"The application does not take changes ({again}): {messages['error']}"
        yield Trouble(sentence, "onelane notifications test")
    elif _older(messages.get("oldest_pending_at"), now, CHANGE_WAITS):
        yield Trouble("The application is not told of changes.", "onelane notifications test")
    if given_up := messages.get("dead"):
        command = "onelane notifications recover --since 7d --dry-run"
        yield Trouble(f"{given_up:,} changes were given up: the application does not know them.", command)


def _older(moment: datetime | None, now: datetime, age: timedelta) -> bool:
    return moment is not None and now - moment > age
