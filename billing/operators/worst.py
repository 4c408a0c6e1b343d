"""Troubles: what is wrong now, the worst first, each in one sentence with the command that mends it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.coordination.jobs import QUEUES
from billing.coordination.queue import NOT_REACHABLE, REFUSED, TAKES_NOTHING
from billing.operators.deliveries import Deliveries, are_refused
from billing.operators.presence import Process
from billing.rules.words import in_number, in_short

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

DOCTOR = "onelane doctor --read-only"
BROKER = {
    NOT_REACHABLE: "does not answer",
    REFUSED: "refuses our login",
    TAKES_NOTHING: "takes no messages, since its memory is full or it is read only",
}
# Reconciling is due every few minutes; its alert speaks at the same age (deploy/prometheus).
RECONCILE_LATE_SECONDS = 3600
NO_BEAT = "Beat does not run: work whose message was lost waits, and nothing is reconciled."


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, what to run, and what it is about: a word by which the console finds the page that shows it."""

    sentence: str
    command: str
    subject: str


def troubles(summary: dict[str, Any], found: Sequence[Process]) -> list[Trouble]:
    """Everything that a person should do something about; `summary` is the report's, `found` has those gone, too."""
    return list(_troubles(summary, found))


def _troubles(summary: dict[str, Any], found: Sequence[Process]) -> Iterator[Trouble]:
    now: datetime = summary["at"]
    if why := summary.get("ledger"):
        yield Trouble(f"The ledger takes no writes, or soon will not: {why}", DOCTOR, "ledger")
    if broker := summary.get("broker"):
        sentence = (
            f"The broker (REDIS_URL, or CELERY_BROKER_URL) {BROKER.get(broker, broker)}: buyers wait, and so does"
        )
        yield Trouble(f"{sentence} all other work, in the database.", DOCTOR, "broker")
    if not summary.get("ledger"):  # else nobody can say that they are there
        yield from _missing(found)
    yield from _at_stripe(summary, now, found)
    if _older(summary["checkouts"].get("oldest_pending_at"), now, CHECKOUT_WAITS):
        because = _because(summary["checkouts"].get("waits_for"))
        sentence = f"A buyer has waited for a payment page for more than a minute.{because}"
        yield Trouble(sentence, "onelane locks list", "checkouts")
    if _older(summary.get("operations", {}).get("oldest_pending_at"), now, CHECKOUT_WAITS):
        sentence = "A buyer has waited for a change of their subscription for more than a minute."
        yield Trouble(sentence, "onelane operations list --status pending", "operations")
    if _older(summary["events"].get("oldest_pending_at"), now, EVENT_WAITS):
        command = "onelane events list --status pending"
        because = _because(summary["events"].get("waits_for"))
        yield Trouble(f"An event has waited for more than five minutes.{because}", command, "events")
    yield from _of_changes(summary["messages"], now)
    if dead := summary["events"].get("dead"):
        why = f" The last one: {error}" if (error := summary["events"].get("error")) else ""
        yield Trouble(f"{in_number(dead, 'event was', 'events were')} given up.{why}", "onelane dead list", "dead")
    if opened := sum(summary["incidents"].values()):
        oldest = summary.get("oldest_incident")
        command = f"onelane incidents show {oldest}" if oldest else "onelane incidents list"
        named = {kind.replace("_", " "): number for kind, number in summary["incidents"].items()}
        kinds = ", ".join(f"{kind} ({number:,})" if opened > 1 else kind for kind, number in named.items())
        waits = in_number(opened, "incident waits", "incidents wait")
        yield Trouble(f"{waits} for a person: {kinds}.", command, "incident")
    beats = [process for process in found if process.kind == "beat"]
    if not summary.get("ledger") and not any(process.is_there for process in beats):
        yield Trouble(f"{NO_BEAT}{_last_of(beats)}", "onelane beat", "beat")
    yield from _of_reconciling(summary.get("reconcile", {}))


def _missing(found: Sequence[Process]) -> Iterator[Trouble]:
    """Webs and workers that are not there."""
    there = [process for process in found if process.is_there]
    if not any(process.kind == "web" for process in there):
        last = _last_of([process for process in found if process.kind == "web"])
        yield Trouble(f"No web runs: nobody takes deliveries and checkouts.{last}", "onelane web", "web")
    workers = [process for process in found if process.kind == "worker"]
    for queue in QUEUES:
        theirs = [process for process in workers if queue in process.queues]
        if not any(process.is_there for process in theirs):
            sentence = f"No worker takes the queue {queue}: {NEED[queue]}.{_last_of(theirs)}"
            yield Trouble(sentence, f"onelane worker --queues {queue}", "workers")


def _at_stripe(summary: dict[str, Any], now: datetime, found: Sequence[Process]) -> Iterator[Trouble]:
    """What goes wrong between Stripe and us: deliveries that are refused or never come, and calls that it refuses."""
    refused = summary.get("key_refused")
    if refused and now - refused["last_at"] < LIMITED_LASTS and _has_that_key(found, refused["last_at"]):
        last = f"The last time was {in_short(now - refused['last_at'])} ago."
        yield Trouble(f"{refused['why']} {last}", "onelane doctor", "key")
    if (unsold := summary.get("checkouts_refused")) and not (refused and unsold["error"] == refused["why"]):
        sentence = in_number(unsold["count"], "checkout of the last hour was", "checkouts of the last hour were")
        sentence += f" refused by Stripe, the last {in_short(now - unsold['last_at'])} ago: {unsold['error']}"
        yield Trouble(sentence, "onelane doctor", "catalog")
    seen = Deliveries(**summary.get("deliveries", {}))
    if are_refused(seen, now=now):
        since = f", and none was taken for {in_short(now - seen.last_signed_at)}" if seen.last_signed_at else ""
        those = in_number(seen.refused, "of Stripe's deliveries was refused", "of Stripe's deliveries were refused")
        yield Trouble(f"{those}{since}: {seen.why}", DOCTOR, "deliveries")
    elif lost := summary.get("undelivered"):
        what = f"does not deliver {lost['types']}" if lost["types"] else "delivers nothing"
        since = f"reconciling found {in_number(lost['events'], 'event')} in {in_short(now - lost['since_at'])}"
        yield Trouble(f"Stripe {what}: {since}, and none of these came since.", DOCTOR, "deliveries")
    limited = summary.get("stripe_limited")
    if limited and now - limited["last_at"] < LIMITED_LASTS:
        yield Trouble(
            f"Stripe asks us to slow down (429), the last time {in_short(now - limited['last_at'])} ago. What was"
            " refused is tried again by itself, buyers first. Where it lasts, lower STRIPE_MAX_PER_SECOND, or stop what"
            " else uses the account.",
            "onelane locks list",
            "checkouts",
        )


def _of_changes(messages: dict[str, Any], now: datetime) -> Iterator[Trouble]:
    """What the application was not told."""
    if _older(messages.get("oldest_failing_at"), now, CHANGE_FAILS):
        again = f"{in_number(messages['failing'], 'is', 'are')} tried again"
        oldest = f"the oldest for {in_short(now - messages['oldest_failing_at'])}"
        sentence = f"The application does not take changes ({again}, {oldest}): {messages['error']}"
        yield Trouble(sentence, "onelane notifications test", "changes")
    elif _older(messages.get("oldest_pending_at"), now, CHANGE_WAITS):
        yield Trouble("The application is not told of changes.", "onelane notifications test", "changes")
    if given_up := messages.get("dead"):
        command = "onelane notifications recover --since 7d --dry-run"
        changes = in_number(given_up, "change was", "changes were")
        yield Trouble(f"{changes} given up, and the application was not told.", command, "untold")


def _of_reconciling(run: dict[str, Any]) -> Iterator[Trouble]:
    """Whether Stripe's events are read, so that one that was never delivered is found."""
    if (age := run.get("age_seconds", 0)) > RECONCILE_LATE_SECONDS:
        why = f" {run['error']}" if run.get("error") else ""
        sentence = f"Stripe's events were not compared for {in_short(timedelta(seconds=age))}: what was never delivered"
        yield Trouble(f"{sentence} is missing.{why}", DOCTOR if why else "onelane reconcile --dry-run", "runs")


def _has_that_key(found: Sequence[Process], refused_at: datetime) -> bool:
    """Whether a worker may still have the key that was refused: one that began before. A new key takes a new start."""
    workers = [process for process in found if process.kind == "worker" and process.is_there]
    return not workers or any(process.started_at <= refused_at for process in workers)


def _because(error: str | None) -> str:
    """Why it waits, where that is known: of a lane a code, which its log lines have as well; of an event a sentence."""
    return f" The last error: {error.removesuffix('.')}." if error else ""


def _last_of(gone: Sequence[Process]) -> str:
    """Where and when the last of those that are gone was there; nothing where none is known."""
    last = min(gone, key=lambda process: process.age_seconds, default=None)
    if last is None:
        return ""
    return f" The last one was seen {in_short(timedelta(seconds=last.age_seconds))} ago on {last.host}."


def _older(moment: datetime | None, now: datetime, age: timedelta) -> bool:
    return moment is not None and now - moment > age
