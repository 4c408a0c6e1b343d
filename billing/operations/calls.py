"""Calls: sends the write that an operation's row holds, and says what the answer means.

Every write carries the idempotency key from the row, so that sending it again, by whomever, is the same write. A
refusal is never judged by its text: what Stripe says of the object afterwards decides.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from billing.errors import StripeRefused
from billing.operations.decide import RUNNING, Write
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none

# Stripe keeps keys for at least 24 h; 4 h for clocks. An older call is not sent again: what it did is looked at anew.
KEY_LIFETIME = timedelta(hours=20)
# A portal session that was opened minutes ago may have ended: a new one is opened instead.
PORTAL_KEY_LIFETIME = timedelta(minutes=2)


def lifetime(call: Mapping[str, Any]) -> timedelta:
    """For how long after it was planned this call may be sent."""
    return PORTAL_KEY_LIFETIME if call["name"] == Write.PORTAL else KEY_LIFETIME


def send(call: Mapping[str, Any], *, stripe: StripeGateway) -> str | None:
    """Send a planned write; the address for a portal session. Raises the gateway's errors where it had no effect."""
    target, parameters, key = call["target"], call["parameters"], call["key"]
    match Write(call["name"]):
        case Write.RELEASE:
            _release(target, key, stripe)
        case Write.CANCEL | Write.REACTIVATE:
            stripe.update_subscription(target, parameters, idempotency_key=key)
        case Write.SCHEDULE:
            stripe.create_schedule(parameters, idempotency_key=key)
        case Write.PHASES:
            stripe.update_schedule(target, parameters, idempotency_key=key)
        case Write.PORTAL:
            return stripe.create_portal_session(parameters, idempotency_key=key)
    return None


def _release(schedule_id: str, key: str, stripe: StripeGateway) -> None:
    """A schedule that governs nothing any more is as good as released (SUB-32)."""
    try:
        stripe.release_schedule(schedule_id, idempotency_key=key)
    except StripeRefused:
        schedule = or_none(stripe.get_schedule, schedule_id)
        if schedule is not None and schedule.get("status") in RUNNING:
            raise
