"""What becomes of an invoice: finalized, paid from credit or by a card, tried again, void.

Each stage is kept for its event.

Stripe waits about an hour between a draft and its finalization; here both happen within one call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import balances, cards
from .amounts import Line, Off
from .calls import Call
from .errors import Json
from .intent_objects import ask_for_authentication, new_intent, unauthenticated
from .invoice_objects import new_invoice, new_payment
from .payment_objects import charge

# Days from one failed attempt to the next, as in Stripe's custom retry schedule; after the last one there is none.
RETRY_DAYS = (3, 5, 7)
_DAY = 86400
# What a paused collection does with an invoice: its status in place of an attempt to have it paid.
PAUSED = {"keep_as_draft": "draft", "mark_uncollectible": "uncollectible", "void": "void"}
_MOMENTS = {"void": "voided_at", "uncollectible": "marked_uncollectible_at", "paid": "paid_at"}


@dataclass(frozen=True)
class Billed:
    """The stages of one invoice, for the events: what was not needed (nothing due, nothing paid) is None."""

    draft: Json
    open: Json
    last: Json
    intent_created: Json | None = None
    intent: Json | None = None
    charge: Json | None = None
    payment: Json | None = None


def bill(
    call: Call,
    customer: Json,
    subscription: Json,
    lines: Sequence[Line],
    *,
    reason: str,
    method: Json | None = None,
    offs: Sequence[Off] = (),
    outcome: str = "try",
) -> Billed:
    """Makes the invoice and has it paid.

    `outcome` is try (the card decides), open (not tried), processing or requires_action (the buyer's bank asks).
    """
    made = new_invoice(call, customer, subscription, lines, reason, currency=subscription["currency"], offs=offs)
    draft = call.store.put("invoice", made)
    paused = subscription["pause_collection"]
    if paused and reason != "subscription_create":
        return _paused(call, draft, PAUSED[paused["behavior"]])
    if subscription["status"] == "unpaid" and reason == "subscription_cycle":
        return _paused(call, draft, "draft")
    opened = finalize(call, draft)
    if opened["amount_due"] == 0:
        return Billed(draft, opened, settled(call, opened))
    if outcome == "open" or subscription["collection_method"] == "send_invoice":
        return Billed(draft, opened, opened)
    if method is None:
        return Billed(draft, opened, _attempted(call, opened))
    return _first_try(call, Billed(draft, opened, opened), method, outcome)


def _paused(call: Call, draft: Json, status: str) -> Billed:
    if status == "draft":
        kept = call.store.change("invoice", draft["id"], auto_advance=False)
        return Billed(kept, kept, kept)
    opened = finalize(call, draft)
    return Billed(draft, opened, closed(call, opened, status) if opened["amount_due"] else settled(call, opened))


def finalize(call: Call, draft: Json) -> Json:
    """Open, with its number, and the customer's balance applied."""
    customer = call.store.get("customer", draft["customer"]) or {}
    number = customer.get("next_invoice_sequence") or 1
    starting = customer.get("balance") or 0
    payable = draft["total"] + starting
    due, ending = max(0, payable), min(0, payable)
    opened = call.store.change(
        "invoice",
        draft["id"],
        amount_due=due,
        amount_remaining=due,
        effective_at=call.now,
        ending_balance=ending,
        hosted_invoice_url=f"{call.base_url}/invoices/{draft['id']}",
        invoice_pdf=f"{call.base_url}/invoices/{draft['id']}/pdf",
        number=f"{customer.get('invoice_prefix') or 'SANDBOX'}-{number:04d}",
        starting_balance=starting,
        status="open",
        status_transitions={**draft["status_transitions"], "finalized_at": call.now},
        **(_dates(call.now + draft["_days_until_due"] * _DAY) if draft.get("_days_until_due") else {}),
    )
    call.store.change("customer", customer["id"], next_invoice_sequence=number + 1)
    if ending != starting:
        change = ending - starting
        balances.moved(call, customer, change, draft["currency"], "applied_to_invoice", invoice=draft["id"])
    return opened


def _dates(due: int) -> Json:
    """When one that is sent by mail has to be paid, and the sandbox looks whether it was."""
    return {"due_date": due, "_due": float(due)}


def collect(call: Call, opened: Json, method: Json, *, fails: bool = False, answered: bool = False) -> Billed:
    """One more try to have an open invoice paid, or the late answer of a payment that was processing.

    `answered`: the buyer has just shown their bank who they are.
    """
    created = None
    payment = next((one for one in payments_of(call, opened["id"]) if one["status"] == "open"), None)
    if payment is None:
        created, payment = _begin(call, opened)
    intent = call.named("payment_intent", payment["payment"]["payment_intent"])
    return _try(call, Billed(opened, opened, opened, created, intent, None, payment), method, fails, answered)


def attempted_without_card(call: Call, opened: Json) -> Billed:
    """One more try where no card is left: nothing is charged, the attempt counts."""
    return Billed(opened, opened, _attempted(call, opened))


def authentication_failed(call: Call, opened: Json) -> Billed:
    """The bank was not convinced: no charge was made, the invoice waits for another card."""
    [payment] = payments_of(call, opened["id"])
    intent = unauthenticated(call, call.named("payment_intent", payment["payment"]["payment_intent"]))
    return Billed(opened, opened, opened, None, intent, None, payment)


def void(call: Call, opened: Json) -> tuple[Json, list[Json]]:
    """Nobody will pay this any more: the invoice, and the payment intents that are canceled with it."""
    intents = []
    for payment in payments_of(call, opened["id"]):
        fields = {"status": "canceled", "status_transitions": {"canceled_at": call.now, "paid_at": None}}
        call.store.change("invoice_payment", payment["id"], **fields)
        gone = {
            "status": "canceled",
            "canceled_at": call.wall,
            "cancellation_reason": "void_invoice",
            "next_action": None,
        }
        intents.append(call.store.change("payment_intent", payment["payment"]["payment_intent"], **gone))
    return closed(call, opened, "void"), intents


def closed(call: Call, opened: Json, status: str) -> Json:
    """Void or uncollectible: not tried any more. What a void one took from the customer's balance comes back."""
    applied = (opened["ending_balance"] or 0) - opened["starting_balance"]
    if status == "void" and applied:
        customer = call.named("customer", opened["customer"])
        balances.moved(call, customer, -applied, opened["currency"], "unapplied_from_invoice", invoice=opened["id"])
    return _ended(call, opened, status)


def payments_of(call: Call, invoice: str) -> list[Json]:
    ids = (call.store.get("invoice", invoice) or {}).get("_payments", [])
    return [one for id in ids if (one := call.store.get("invoice_payment", id)) is not None]


def _begin(call: Call, opened: Json) -> tuple[Json, Json]:
    words = "Subscription creation" if opened["billing_reason"] == "subscription_create" else "Subscription update"
    intent = new_intent(
        call,
        amount=opened["amount_due"],
        currency=opened["currency"],
        customer=opened["customer"],
        description=words,
        setup_future_usage="off_session",
    )
    return intent, new_payment(call, opened, intent)


def _first_try(call: Call, billed: Billed, method: Json, outcome: str) -> Billed:
    waiting, payment = _begin(call, billed.open)
    billed = replace(billed, intent_created=waiting, intent=waiting, payment=payment)
    if outcome not in ("processing", "requires_action"):
        return _try(call, billed, method, outcome == "failed")
    return replace(billed, intent=_waits(call, waiting, method, outcome))


def _waits(call: Call, intent: Json, method: Json, status: str) -> Json:
    asked = ask_for_authentication(call.base_url, intent) if status == "requires_action" else None
    fields = {"status": status, "payment_method": method["id"], "next_action": asked}
    return call.store.change("payment_intent", intent["id"], **fields)


def _try(call: Call, billed: Billed, method: Json, fails: bool, answered: bool = False) -> Billed:
    assert billed.intent is not None
    assert billed.payment is not None
    if cards.behind(method).always and not answered:
        asked = _waits(call, billed.intent, method, "requires_action")
        return replace(billed, last=_attempted(call, billed.last), intent=asked)
    made, intent = charge(call, billed.intent, method, fails=fails)
    if made["status"] != "succeeded":
        return replace(billed, last=_attempted(call, billed.last), intent=intent, charge=made)
    payment = call.store.change(
        "invoice_payment",
        billed.payment["id"],
        amount_paid=intent["amount"],
        status="paid",
        status_transitions={"canceled_at": None, "paid_at": call.now},
    )
    return replace(billed, last=settled(call, billed.last), intent=intent, charge=made, payment=payment)


def _attempted(call: Call, opened: Json) -> Json:
    """A failed attempt, and when the next one comes. The first invoice of a subscription is not tried again."""
    count = opened["attempt_count"] + 1
    again = opened["auto_advance"] and opened["billing_reason"] != "subscription_create" and count <= len(RETRY_DAYS)
    at = call.now + RETRY_DAYS[count - 1] * _DAY if again else None
    due = float(at) if at else None
    fields = {"attempted": True, "attempt_count": count, "next_payment_attempt": at, "_due": due}
    return call.store.change("invoice", opened["id"], **fields)


def settled(call: Call, opened: Json) -> Json:
    """Paid: by a card, or by credit where nothing is left to pay."""
    counted = opened["attempt_count"] + (1 if opened["amount_due"] else 0)
    return _ended(call, opened, "paid", amount_paid=opened["amount_due"], attempted=True, attempt_count=counted)


def paid_elsewhere(call: Call, opened: Json) -> Json:
    """`paid_out_of_band`: the money came by another way."""
    return _ended(call, opened, "paid", amount_paid=opened["amount_due"], amount_paid_off_stripe=opened["amount_due"])


def _ended(call: Call, opened: Json, status: str, **more: object) -> Json:
    moments = {**opened["status_transitions"], _MOMENTS[status]: call.now}
    left = {"amount_remaining": 0} if status == "paid" else {}
    return call.store.change(
        "invoice",
        opened["id"],
        status=status,
        auto_advance=False,
        next_payment_attempt=None,
        status_transitions=moments,
        **left,
        **more,
        _due=None,
    )
