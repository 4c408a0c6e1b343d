"""Invoices and what pays them. An invoice goes draft, open, paid within one call; each stage is kept for its event."""

from dataclasses import dataclass

from . import forms
from .calls import Call, Route
from .errors import Json
from .lists import PAGING, page, same, whole
from .payments import charge, new_intent


@dataclass(frozen=True)
class Line:
    """One price over one period. `discount` is what a coupon takes off `amount`."""

    item: str
    price: Json
    quantity: int
    amount: int
    start: int
    end: int
    description: str
    discount: int = 0


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
    """Makes the invoice and settles it: `outcome` is paid, failed (declined), open (nobody tried) or processing."""
    id = call.store.new_id("in_1")
    subtotal = sum(line.amount for line in lines)
    off = sum(line.discount for line in lines)
    total = subtotal - off
    number = customer.get("next_invoice_sequence") or 1
    draft: Json = {
        "id": id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Sandbox",
        "account_tax_ids": None,
        "amount_due": total,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": total,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {**subscription["automatic_tax"], "provider": None, "status": None},
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": call.now,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [discount] if discount else [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": whole(
            [_line(call, id, subscription, line, discount) for line in lines], f"/v1/invoices/{id}/lines"
        ),
        "livemode": call.livemode,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {
                "metadata": subscription["metadata"],
                "subscription": subscription["id"],
            },
            "type": "subscription_details",
        },
        "payment_settings": {
            "default_mandate": None, "payment_method_options": None, "payment_method_types": None
        },
        "period_end": call.now,
        "period_start": call.now,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None
        },
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "test_clock": None,
        "total": total,
        "total_discount_amounts": [{"amount": off, "discount": discount}] if discount else [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }  # fmt: skip
    call.store.put("invoice", draft)
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
    payment = _invoice_payment(call, opened, waiting)
    if outcome == "processing":
        intent = call.store.change("payment_intent", waiting["id"], status="processing", payment_method=method["id"])
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
        payment = _invoice_payment(call, opened, created)
    intent = call.named("payment_intent", payment["payment"]["payment_intent"])
    return _try(call, Billed(opened, opened, opened, created, intent, None, payment), method, succeeds)


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


def _line(call: Call, invoice: str, subscription: Json, line: Line, discount: str | None) -> Json:
    return {
        "id": call.store.new_id("il_1"),
        "object": "line_item",
        "amount": line.amount,
        "currency": subscription["currency"],
        "description": line.description,
        "discount_amounts": [{"amount": line.discount, "discount": discount}] if discount else [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice,
        "livemode": call.livemode,
        "metadata": subscription["metadata"],
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": subscription["id"],
                "subscription_item": line.item,
            },
            "type": "subscription_item_details",
        },
        "period": {"end": line.end, "start": line.start},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": line.price["id"], "product": line.price["product"]},
            "type": "price_details",
            "unit_amount_decimal": line.price["unit_amount_decimal"],
        },
        "quantity": line.quantity,
        "subscription": subscription["id"],
        "subtotal": line.amount,
        "taxes": [],
    }


def _invoice_payment(call: Call, invoice: Json, intent: Json) -> Json:
    made = call.store.put(
        "invoice_payment",
        {
            "id": call.store.new_id("inpay_1"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": call.now,
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": call.livemode,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        },
    )
    call.store.change("invoice", invoice["id"], _payments=[made["id"]])
    return made


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
