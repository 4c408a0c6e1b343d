"""Fetch everything that Stripe has of one customer, with calls in parallel and no transaction open.

Stripe's lists promise no read-after-write. A subscription that the list lacks is fetched by its id, if an event named
it, a paid session made it, or it was live at the last fetch. Without that, a customer who has just paid would have no
access until the next sync (SUB-22).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from billing.errors import StripeMisconfigured, StripeRefused
from billing.models import AttemptOutcome
from billing.rules.ids import CUSTOMER, SUBSCRIPTION, id_like
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.projection import is_live, schedule_of
from billing.subscriptions.stripe_fields import id_of, time_of

Json = Mapping[str, Any]

_OUTCOMES = {"complete": AttemptOutcome.COMPLETED, "expired": AttemptOutcome.EXPIRED}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Stripe's answers of one fetch."""

    subscriptions: Sequence[Json]
    deleted: bool | None  # None: not asked
    schedules: Mapping[str, Json] = field(default_factory=dict)
    sessions: Mapping[str, AttemptOutcome] = field(default_factory=dict)
    clocks: Mapping[str, datetime | None] = field(default_factory=dict)  # the times of test clocks; None: unknown

    def time_of(self, subscription: Json, *, now: datetime) -> datetime:
        """The subscription's own time (SUB-119)."""
        return self.clocks.get(clock_of(subscription) or "") or now


def fetch(
    customer_id: str,
    *,
    stripe: StripeGateway,
    with_customer: bool,
    sessions: Iterable[str],
    expected: Iterable[str],
) -> Snapshot:
    """The customer's subscriptions and schedules, and the outcomes of `sessions`.

    `expected` are ids of subscriptions that the list should have. What Stripe does not know is an answer, not an error
    (SUB-5). Raises the gateway's other errors.
    """
    wanted = list(sessions)
    calls = [partial(or_none, stripe.list_subscriptions, customer_id)]
    if with_customer:
        calls.append(partial(or_none, stripe.get_customer, customer_id))
    calls += [partial(or_none, stripe.get_session, id_) for id_ in wanted]
    found, *others = stripe.in_parallel(*calls)
    customer = others.pop(0) if with_customer else {}
    gone = found is None or customer is None or bool(customer.get("deleted"))
    made = (id_like(SUBSCRIPTION, (session or {}).get("subscription")) for session in others)
    listed = list(found or [])
    if not gone:
        listed += fetch_missing(customer_id, {*expected, *filter(None, made)}, listed, stripe)
    return Snapshot(
        subscriptions=listed,
        deleted=gone if gone or with_customer else None,
        schedules=_fetch_schedules(listed, stripe),
        sessions=_outcomes(dict(zip(wanted, others, strict=True))),
        clocks={id_: _clock_time(id_, stripe) for id_ in sorted(set(filter(None, map(clock_of, listed))))},
    )


def fetch_missing(
    customer_id: str, expected: Iterable[str], listed: Sequence[Json], stripe: StripeGateway
) -> list[Json]:
    """The expected subscriptions that `listed` lacks, by id; those of another customer are left out."""
    missing = sorted(set(expected) - {str(subscription["id"]) for subscription in listed})
    answers = stripe.in_parallel(*(partial(or_none, stripe.get_subscription, id_) for id_ in missing))
    found = [answer for answer in answers if answer is not None]
    return [subscription for subscription in found if id_like(CUSTOMER, subscription.get("customer")) == customer_id]


def or_none(call: Callable[[str], Any], id_: str) -> Any:
    """The answer of `call(id_)`; None where Stripe has no such object, or no such customer to list something of."""
    try:
        return call(id_)
    except StripeRefused as refused:
        if refused.is_missing:
            return None
        raise


def _fetch_schedules(subscriptions: Sequence[Json], stripe: StripeGateway) -> Mapping[str, Json]:
    """The schedules of live subscriptions, by id: they name the next plan."""
    live = [subscription for subscription in subscriptions if is_live(str(subscription.get("status")))]
    wanted = [id_ for id_ in map(schedule_of, live) if id_]
    if not wanted:
        return {}
    answers = stripe.in_parallel(*(partial(or_none, stripe.get_schedule, id_) for id_ in wanted))
    return {id_: answer for id_, answer in zip(wanted, answers, strict=True) if answer is not None}


def clock_of(subscription: Json) -> str | None:
    """The test clock that it lives on; none outside of test mode."""
    return id_of(subscription.get("test_clock"))


def _clock_time(clock_id: str, stripe: StripeGateway) -> datetime | None:
    """The time of a test clock; while it advances, the one that it is going to. A restricted key may not read it."""
    try:
        clock = or_none(stripe.get_test_clock, clock_id) or {}
    except StripeMisconfigured:
        return None
    advancing = (clock.get("status_details") or {}).get("advancing") or {}
    return time_of(advancing.get("target_frozen_time") or clock.get("frozen_time"))


def _outcomes(sessions: Mapping[str, Json | None]) -> Mapping[str, AttemptOutcome]:
    ended = ((id_, _OUTCOMES.get(str((session or {}).get("status")))) for id_, session in sessions.items())
    return {id_: outcome for id_, outcome in ended if outcome is not None}
