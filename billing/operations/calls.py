"""What an operation can be about: what buyers ask for, the writes that do it, and what is known of Stripe."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Json = Mapping[str, Any]

RUNNING = ("not_started", "active")  # the statuses of a schedule that still governs something


class Kind(StrEnum):
    """What a buyer can ask for."""

    CANCEL = "cancel"
    REACTIVATE = "reactivate"
    SWITCH = "switch"
    UNDO_SWITCH = "undo_switch"
    PORTAL = "portal"


class Write(StrEnum):
    """A call that changes something at Stripe."""

    RELEASE = "release"  # take the subscription out of its schedule
    CANCEL = "cancel"
    REACTIVATE = "reactivate"
    SCHEDULE = "schedule"  # put the subscription under a schedule
    PHASES = "phases"
    PORTAL = "portal"


@dataclass(frozen=True, slots=True)
class Call:
    """The next write: what, to which object, with which parameters, for which subscription.

    `term` is the end, in epoch seconds, that a cancellation replaces, where somebody had fixed one.
    """

    name: Write
    target: str
    parameters: Json
    subscription_id: str | None = None
    term: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A write that was answered. `refused` holds the problem where Stripe refused it, and it changed nothing.

    Of a cancellation: the end that it set, and the term that it replaced, in epoch seconds.
    """

    name: str
    subscription_id: str | None = None
    ends_at: int | None = None
    term: int | None = None
    refused: Json | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """Stripe is as the buyer asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The operation cannot be done for this user; `extra` are members of the problem."""

    code: str
    detail: str
    extra: Json


Next = Call | Done | Refusal

NO_SUBSCRIPTION = Refusal("no_subscription", "This user has no subscription to this product.", {})


@dataclass(frozen=True, slots=True)
class Governed:
    """A subscription, and the schedule that governs it, if one does."""

    subscription: Json
    schedule: Json | None

    @property
    def id(self) -> str:
        return str(self.subscription["id"])

    @property
    def running(self) -> Json | None:
        """The schedule, while it governs something."""
        return self.schedule if self.schedule and self.schedule.get("status") in RUNNING else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Stripe says: the subscription that the user is shown, and for a cancellation the product's other live ones.

    `coming` are schedules that begin one later. `cancellations` are ours, of any of these subscriptions, newest first.
    """

    customer_id: str
    shown: Governed | None
    others: Sequence[Governed] = ()
    coming: Sequence[Json] = ()
    cancellations: Sequence[Sent] = ()


def names(sent: Iterable[Sent], subscription_id: str) -> set[str]:
    """The writes for this subscription that had an effect, or may have had one."""
    return {one.name for one in sent if one.subscription_id in (None, subscription_id) and one.refused is None}
