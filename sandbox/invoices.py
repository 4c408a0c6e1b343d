"""Invoices and what pays them. An invoice goes draft, open, paid within one call; each stage is kept for its event."""

from dataclasses import dataclass

from . import forms
from .calls import Call, Route
from .errors import Json
from .invoice_objects import Line, new_invoice, new_payment
from .lists import PAGING, page, same
from .payment_objects import ask_for_authentication, charge, new_intent, unauthenticated


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
    lines: list[Line],
    *,
    reason: str,
    method: Json | None = None,
    discount: str | None = None,
    outcome: str = "paid",
) -> Billed:
    """Makes the invoice and settles it.

    `outcome` is paid, failed (declined), open (not tried), processing or requires_action (the buyer's bank asks).
    """
    draft = new_invoice(call, customer, subscription, lines, reason, discount)
    id, total = draft["id"], draft["total"]
    call.store.put("invoice", draft)
    number = customer.get("next_invoice_sequence") or 1
    opened = call.store.change(
        "invoice",
        id,
        status="open",
        effective_at=call.now,
        hosted_invoice_url=f"{call.base_url}/invoices/{id}",
        invoice_pdf=f"{call.base_url}/invoices/{id}/pdf",
        number=f"{customer.get('invoice_prefix') or 'SANDBOX'}-{number:04d}",
        status_transitions={**draft["status_transitions"], "finalized_at": call.now},
    )
    call.store.change("customer", customer["id"], next_invoice_sequence=number + 1)
    if outcome == "open":
        return Billed(draft, opened, opened)
    if total == 0 or method is None:
        return Billed(draft, opened, _settled(call, opened) if total == 0 else opened)
    waiting = new_intent(
        call,
        amount=total,
        currency=opened["currency"],
        customer=customer["id"],
        description="Subscription creation" if reason == "subscription_create" else "Subscription update",
    )
    payment = new_payment(call, opened, waiting)
    if outcome in ("processing", "requires_action"):
        asked = ask_for_authentication(call.base_url, waiting) if outcome == "requires_action" else None
        fields = {"status": outcome, "payment_method": method["id"], "next_action": asked}
        intent = call.store.change("payment_intent", waiting["id"], **fields)
        return Billed(draft, opened, opened, waiting, intent, None, payment)
    return _try(call, Billed(draft, opened, opened, waiting, waiting, None, payment), method, outcome == "paid")


def collect(call: Call, opened: Json, method: Json, *, succeeds: bool) -> Billed:
    """One more try to have an open invoice paid, or the late answer of a payment that was processing."""
    created = None
    payment = next((one for one in payments_of(call, opened["id"]) if one["status"] == "open"), None)
    if payment is None:
        created = new_intent(
            call, amount=opened["amount_due"], currency=opened["currency"], customer=opened["customer"]
        )
        payment = new_payment(call, opened, created)
    intent = call.named("payment_intent", payment["payment"]["payment_intent"])
    return _try(call, Billed(opened, opened, opened, created, intent, None, payment), method, succeeds)


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
            "canceled_at": call.now,
            "cancellation_reason": "void_invoice",
            "next_action": None,
        }
        intents.append(call.store.change("payment_intent", payment["payment"]["payment_intent"], **gone))
    voided = {**opened["status_transitions"], "voided_at": call.now}
    return call.store.change("invoice", opened["id"], status="void", status_transitions=voided), intents


def payments_of(call: Call, invoice: str) -> list[Json]:
    ids = (call.store.get("invoice", invoice) or {}).get("_payments", [])
    return [one for id in ids if (one := call.store.get("invoice_payment", id)) is not None]


def _try(call: Call, billed: Billed, method: Json, succeeds: bool) -> Billed:
    assert billed.intent is not None
    assert billed.payment is not None
    made, intent = charge(call, billed.intent, method, succeeds=succeeds)
    payment = billed.payment
    if succeeds:
        last = _settled(call, billed.last)
        payment = call.store.change(
            "invoice_payment",
            payment["id"],
            amount_paid=intent["amount"],
            status="paid",
            status_transitions={"canceled_at": None, "paid_at": call.now},
        )
    else:
        count = billed.last["attempt_count"] + 1
        last = call.store.change("invoice", billed.last["id"], attempted=True, attempt_count=count)
    return Billed(billed.draft, billed.open, last, billed.intent_created, intent, made, payment)


def _settled(call: Call, opened: Json) -> Json:
    return call.store.change(
        "invoice",
        opened["id"],
        status="paid",
        amount_paid=opened["amount_due"],
        amount_remaining=0,
        attempted=True,
        attempt_count=opened["attempt_count"] + (1 if opened["amount_due"] else 0),
        auto_advance=False,
        status_transitions={**opened["status_transitions"], "paid_at": call.now},
    )


def list_invoices(call: Call, params: Json) -> Json:
    def keep(one: Json) -> bool:
        of = one["parent"]["subscription_details"]["subscription"]
        return same(of, params.get("subscription")) and same(one["status"], params.get("status"))

    return page(call, "invoice", params, "/v1/invoices", customer=params.get("customer"), keep=keep)


def list_payments(call: Call, params: Json) -> Json:
    intent = (params.get("payment") or {}).get("payment_intent")

    def keep(one: Json) -> bool:
        return (
            same(one["invoice"], params.get("invoice"))
            and same(one["status"], params.get("status"))
            and same(one["payment"]["payment_intent"], intent)
        )

    return page(call, "invoice_payment", params, "/v1/invoice_payments", keep=keep)


ROUTES: list[Route] = [
    (
        "GET",
        "/v1/invoices",
        {
            **PAGING,
            "collection_method": forms.one_of("charge_automatically", "send_invoice"),
            "created": forms.created,
            "customer": forms.text(),
            "status": forms.one_of("draft", "open", "paid", "uncollectible", "void"),
            "subscription": forms.text(),
        },
        list_invoices,
    ),
    ("GET", "/v1/invoices/{id}", {}, lambda call, params: call.named("invoice", params["id"])),
    (
        "GET",
        "/v1/invoices/{id}/lines",
        PAGING,
        lambda call, params: call.named("invoice", params["id"])["lines"],
    ),
    (
        "GET",
        "/v1/invoice_payments",
        {
            **PAGING,
            "invoice": forms.text(),
            "payment": forms.table({"payment_intent": forms.text(), "type": forms.text()}),
            "status": forms.one_of("canceled", "open", "paid"),
        },
        list_payments,
    ),
    ("GET", "/v1/invoice_payments/{id}", {}, lambda call, params: call.named("invoice_payment", params["id"])),
]
