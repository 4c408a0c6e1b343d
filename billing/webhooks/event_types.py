"""The event types that onelane follows, each with when it occurs and what it asks of us. Data, no code.

Events are hints: the payload says whose, Stripe says what. So nearly all of them ask for the same thing, a
sync of the customer, and the order in which they come does not matter. A type not listed here is recorded
and left alone, thin ones (of the v2 API's form) among them.
"""

from enum import StrEnum
from typing import NamedTuple


class EventAction(StrEnum):
    """What an event of this type asks for. Every one of them syncs the customer; some look at one thing more."""

    SYNC = "sync"
    SESSION = "session"  # also note what became of the checkout session
    CUSTOMER = "customer"  # also look whether the customer still exists
    PAYMENT = "payment"  # also look whether it paid for a duplicate that was canceled before
    REFUND = "refund"  # also look whether payments were paid back; where it names no customer, its charge does
    DISPUTE = "dispute"  # the same; it never names a customer
    MISSED = "missed"  # tells of events that were never made: look at whom they concerned, or at everybody


class Followed(NamedTuple):
    """One followed type."""

    occurs_when: str
    action: EventAction = EventAction.SYNC


# What a snapshot endpoint is told. Of most of them Stripe also sends thin notifications, with `v1.` before the type.
FOLLOWED: dict[str, Followed] = {
    # --- checkout
    "checkout.session.completed": Followed(
        "Occurs when a buyer finishes the payment page; with a delayed payment method the money is still on its way.",
        EventAction.SESSION,
    ),
    "checkout.session.expired": Followed(
        "Occurs when a session reaches its end unpaid, or when we expire it.", EventAction.SESSION
    ),
    "checkout.session.async_payment_succeeded": Followed(
        "Occurs when a delayed payment (a debit, say) arrives, days after the session was completed.",
        EventAction.SESSION,
    ),
    "checkout.session.async_payment_failed": Followed(
        "Occurs when a delayed payment is refused, days after the session was completed.", EventAction.SESSION
    ),
    # --- subscriptions
    "customer.subscription.created": Followed(
        "Occurs when a customer is signed up for a plan, by us, the dashboard or another program."
    ),
    "customer.subscription.updated": Followed(
        "Occurs when anything about a subscription changes: a renewal, a plan change, a cancellation at period end."
    ),
    "customer.subscription.deleted": Followed("Occurs when a subscription ends."),
    "customer.subscription.paused": Followed(
        "Occurs when a trial ends without a payment method and the subscription is set to pause then."
    ),
    "customer.subscription.resumed": Followed("Occurs when a paused subscription becomes active again."),
    "customer.subscription.trial_will_end": Followed("Occurs three days before a trial ends, or when it is cut short."),
    "customer.subscription.pending_update_applied": Followed(
        "Occurs when a change that waited for its payment has been paid and takes effect."
    ),
    "customer.subscription.pending_update_expired": Followed(
        "Occurs when a change that waited for its payment was not paid in time and is dropped."
    ),
    # --- invoices
    "invoice.paid": Followed(
        "Occurs when an invoice is settled, also one of zero, or one marked paid out of band.", EventAction.PAYMENT
    ),
    "invoice.payment_failed": Followed("Occurs when an attempt to pay an invoice fails, the first or a later one."),
    "invoice.payment_action_required": Followed(
        "Occurs when a payment needs the buyer: 3-D Secure on a renewal, for example."
    ),
    "invoice.marked_uncollectible": Followed("Occurs when an invoice is given up as bad debt."),
    "invoice.voided": Followed("Occurs when an invoice is voided."),
    # --- money that goes back
    "charge.refunded": Followed("Occurs when a charge is refunded, wholly or in part.", EventAction.REFUND),
    "charge.refund.updated": Followed("Occurs when a refund of a charge changes: it arrives, say.", EventAction.REFUND),
    "refund.created": Followed("Occurs when a refund is made, by us, the dashboard or a bank.", EventAction.REFUND),
    "refund.updated": Followed(
        "Occurs when a refund changes: one that was pending arrives or is canceled.", EventAction.REFUND
    ),
    "refund.failed": Followed(
        "Occurs when a bank returns a refund, up to weeks after it was made; the money is the account's again.",
        EventAction.REFUND,
    ),
    "charge.dispute.created": Followed("Occurs when a buyer disputes a charge with the bank.", EventAction.DISPUTE),
    "charge.dispute.updated": Followed("Occurs when a dispute changes, with new evidence mostly.", EventAction.DISPUTE),
    "charge.dispute.closed": Followed("Occurs when a dispute is won, lost or withdrawn.", EventAction.DISPUTE),
    "charge.dispute.funds_withdrawn": Followed(
        "Occurs when a dispute takes the money from the account.", EventAction.DISPUTE
    ),
    "charge.dispute.funds_reinstated": Followed(
        "Occurs when a dispute's money comes back to the account.", EventAction.DISPUTE
    ),
    # --- customers
    "customer.updated": Followed("Occurs when anything about a customer changes.", EventAction.CUSTOMER),
    "customer.deleted": Followed(
        "Occurs when a customer is deleted; all of their subscriptions end with it.", EventAction.CUSTOMER
    ),
    # --- plan changes that wait for the period's end
    "subscription_schedule.created": Followed("Occurs when a schedule is made: a plan change is planned."),
    "subscription_schedule.updated": Followed("Occurs when a schedule changes, also when it enters its next phase."),
    "subscription_schedule.released": Followed(
        "Occurs when a schedule lets go of its subscription, which goes on as it is."
    ),
    "subscription_schedule.canceled": Followed(
        "Occurs when a schedule is canceled, its subscription with it unless it has not begun."
    ),
    "subscription_schedule.completed": Followed("Occurs when a schedule has gone through its last phase."),
    "subscription_schedule.aborted": Followed("Occurs when a schedule is canceled because its invoice was not paid."),
    "subscription_schedule.expiring": Followed("Occurs seven days before a schedule ends."),
    # --- entitlements
    "entitlements.active_entitlement_summary.updated": Followed(
        "Occurs when the set of features that a customer is entitled to changes."
    ),
}

# What comes as a thin notification only.
FOLLOWED_THIN: dict[str, Followed] = {
    "v2.core.health.event_generation_failure.resolved": Followed(
        "Occurs when Stripe could not make an event, which is then never sent nor listed.", EventAction.MISSED
    ),
}
_THIN = ("v1.", "v2.")
# Stripe holds the buyer on its page until this was answered; a second later they ask for what they paid for.
AWAITED = ("checkout.session.completed", "v1.checkout.session.completed")


def is_thin(event_type: str) -> bool:
    """Whether a notification of this type is thin: it names the API of its object first."""
    return event_type.startswith(_THIN)


def action_for(event_type: str) -> EventAction | None:
    """What an event of this type asks for, thin or not; None when nobody follows it."""
    followed = FOLLOWED_THIN.get(event_type) or FOLLOWED.get(event_type.removeprefix("v1."))
    return followed.action if followed else None
