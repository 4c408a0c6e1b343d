"""An invoice, its lines and its payment as they begin. `invoices.py` has what becomes of them."""

from collections.abc import Sequence

from .amounts import Amounts, Line, Off, Taxed, exclusive, worked_out
from .calls import Call
from .errors import Json
from .lists import whole


def new_invoice(
    call: Call,
    customer: Json,
    subscription: Json | None,
    lines: Sequence[Line],
    reason: str,
    *,
    currency: str,
    offs: Sequence[Off] = (),
) -> Json:
    """A draft, not stored yet."""
    id = call.store.new_id("in_1")
    worked = worked_out(lines, offs)
    subtotal = sum(line.amount for line in lines)
    added = sum(exclusive(one.taxes) for one in worked)
    tax = sum(each.amount for one in worked for each in one.taxes)
    inclusive = tax - added
    total = subtotal - sum(sum(one.off.values()) for one in worked) + added
    taxed = subscription is not None and subscription["automatic_tax"]["enabled"]
    return {
        "id": id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Sandbox",
        "account_tax_ids": None,
        "amount_due": max(0, total),
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": max(0, total),
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None, "enabled": bool(taxed), "liability": {"type": "self"} if taxed else None,
            "provider": "stripe" if taxed else None, "status": "complete" if taxed else None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": subscription["collection_method"] if subscription else "charge_automatically",
        "created": call.now,
        "currency": currency,
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
        "default_tax_rates": subscription["default_tax_rates"] if subscription else [],
        "description": None,
        "discounts": [off.id for off in offs],
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
            [_line(call, id, subscription, line, amounts, currency)
             for line, amounts in zip(lines, worked, strict=True)],
            f"/v1/invoices/{id}/lines",
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
        } if subscription else None,
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
        "starting_balance": customer["balance"],
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None
        },
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "test_clock": call.test_clock,
        "total": total,
        "total_discount_amounts": _summed(worked),
        "total_excluding_tax": total - tax,
        "total_pretax_credit_amounts": [],
        "total_taxes": [_tax(one) for amounts in worked for one in amounts.taxes],
        "webhooks_delivered_at": None,
        "_days_until_due": subscription["days_until_due"] if subscription else None,
    }  # fmt: skip


def _summed(worked: Sequence[Amounts]) -> list[Json]:
    ids = dict.fromkeys(id for one in worked for id in one.off)
    return [{"amount": sum(one.off.get(id, 0) for one in worked), "discount": id} for id in ids]


def _tax(one: Taxed) -> Json:
    return {
        "amount": one.amount,
        "tax_behavior": "inclusive" if one.rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": one.rate["id"]},
        "taxability_reason": "standard_rated",
        "taxable_amount": one.taxable,
        "type": "tax_rate_details",
    }


def _line(call: Call, invoice: str, subscription: Json | None, line: Line, amounts: Amounts, currency: str) -> Json:
    return {
        "id": call.store.new_id("il_1"),
        "object": "line_item",
        "amount": line.amount,
        "currency": currency,
        "description": line.description,
        "discount_amounts": [{"amount": off, "discount": id} for id, off in amounts.off.items()],
        "discountable": not line.proration,
        "discounts": [off.id for off in line.offs],
        "invoice": invoice,
        "livemode": call.livemode,
        "metadata": line.metadata or (subscription["metadata"] if subscription else {}),
        "parent": _parent(subscription, line),
        "period": {"end": line.end, "start": line.start},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": line.price["id"], "product": line.price["product"]},
            "type": "price_details",
            "unit_amount_decimal": line.price["unit_amount_decimal"],
        } if line.price else None,
        "quantity": line.quantity,
        "subscription": subscription["id"] if subscription else None,
        "subtotal": line.amount,
        "taxes": [_tax(one) for one in amounts.taxes],
    }  # fmt: skip


def _parent(subscription: Json | None, line: Line) -> Json:
    shared = {
        "proration": line.proration or line.part,
        "proration_details": {"credited_items": None},
        "subscription": subscription["id"] if subscription else None,
    }
    if line.item is None or not line.item.startswith("si_"):
        return {
            "invoice_item_details": {**shared, "invoice_item": line.item},
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }
    return {
        "invoice_item_details": None,
        "subscription_item_details": {**shared, "invoice_item": None, "subscription_item": line.item},
        "type": "subscription_item_details",
    }


def new_payment(call: Call, invoice: Json, intent: Json) -> Json:
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
    kept = call.store.get("invoice", invoice["id"]) or invoice
    call.store.change("invoice", invoice["id"], _payments=[*kept.get("_payments", []), made["id"]])
    return made
