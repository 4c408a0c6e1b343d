"""Refunds: the whole of a charge or a part of it. The card that was charged decides what becomes of the refund.

Stripe's own test cards: one whose refunds are pending and then succeed, one whose refunds succeed and then fail.
"Some time later" is a day here; the control plane can say it at once.
"""

from typing import Any

from . import cards, forms
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING
from .payments import list_of, retrieve

_LATER_SECONDS = 86400.0
# How the refund of a card begins, and what it becomes later.
_COURSES: dict[str, tuple[str, str | None]] = {
    "succeeded": ("succeeded", None),
    "pending": ("pending", "succeeded"),
    "failed": ("succeeded", "failed"),
}
# While a dispute has taken the money, there is nothing to refund. An inquiry has not taken it.
_HELD = frozenset({"needs_response", "under_review", "lost"})
STATUSES = ("succeeded", "failed", "canceled")


def refund(call: Call, params: Json) -> Json:
    """The whole of a charge or a part of it; never more than is left."""
    paid = _charge(call, params)
    left = paid["amount_captured"] - paid["amount_refunded"]
    amount = params.get("amount") or left
    if left == 0:
        raise refused(f"Charge {paid['id']} has already been refunded.", code="charge_already_refunded", param="charge")
    if any(one["charge"] == paid["id"] and one["status"] in _HELD for one in call.store.all("dispute")):
        raise refused(f"Charge {paid['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    if amount > left:
        raise refused(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
    status, later = _COURSES[cards.behind(paid["payment_method_details"]).refund]
    made = call.store.put(
        "refund",
        {
            "id": call.store.new_id("re_3"),
            "object": "refund",
            "amount": amount,
            "balance_transaction": call.store.new_id("txn_3"),
            "charge": paid["id"],
            "created": call.wall,
            "currency": paid["currency"],
            "customer": paid["customer"],
            "customer_account": None,
            "destination_details": {"card": {"reference_status": "pending", "type": "refund"}, "type": "card"},
            "metadata": forms.merge_metadata({}, params.get("metadata")),
            "payment_intent": paid["payment_intent"],
            "payment_method": paid["payment_method"],
            "reason": params.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": status,
            "transfer_reversal": None,
            **({"pending_reason": "processing"} if status == "pending" else {}),
            "_due": call.time + _LATER_SECONDS if later else None,
            "_later": later,
        },
    )
    after = _refunded(call, paid, amount)
    emit(call, "refund.created", made)
    emit(call, "charge.refunded", after, previous=paid)
    return made


def _charge(call: Call, params: Json) -> Json:
    if params.get("payment_intent"):
        intent = call.named("payment_intent", params["payment_intent"], param="payment_intent")
        if intent["latest_charge"] is None or intent["status"] != "succeeded":
            raise refused(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                param="payment_intent",
            )
        return call.named("charge", intent["latest_charge"])
    if params.get("charge"):
        return call.named("charge", params["charge"], param="charge")
    raise bad_parameter(
        "One of the following params should be provided for this request: payment_intent or charge.", "charge"
    )


def _refunded(call: Call, charge: Json, change: int) -> Json:
    total = charge["amount_refunded"] + change
    fields = {"amount_refunded": total, "refunded": total == charge["amount_captured"]}
    return call.store.change("charge", charge["id"], **fields)


def arrived(call: Call, old: Json) -> Json:
    """What time makes of it."""
    return became(call, old, old["_later"])


def became(call: Call, old: Json, status: str) -> Json:
    """The refund's later status, with its events. What a failed one did not give back can be refunded again."""
    charge = call.store.get("charge", old["charge"]) or {}
    call.livemode = bool(charge["livemode"])
    if old["status"] == status or old["status"] in ("failed", "canceled"):
        raise refused(f"A refund that is {old['status']} cannot become {status}.", param="status")
    fields: dict[str, Any] = {"status": status, "_due": None, "_later": None}
    if status == "failed":
        fields["failure_reason"] = "expired_or_canceled_card"
        fields["failure_balance_transaction"] = call.store.new_id("txn_3")
    kept = {name: value for name, value in old.items() if name != "pending_reason"}
    one = call.store.put("refund", {**kept, **fields})
    if status in ("failed", "canceled"):
        _refunded(call, charge, -one["amount"])
    emit(call, "refund.updated", one, previous=old)
    emit(call, "charge.refund.updated", one, previous=old)
    if status == "failed":
        emit(call, "refund.failed", one, previous=old)
    return one


def update(call: Call, params: Json) -> Json:
    old = call.named("refund", params["id"])
    if "metadata" not in params:
        return old
    one = call.store.change("refund", old["id"], metadata=forms.merge_metadata(old["metadata"], params["metadata"]))
    emit(call, "refund.updated", one, previous=old)
    emit(call, "charge.refund.updated", one, previous=old)
    return one


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/refunds",
        {
            "amount": forms.integer(1),
            "charge": forms.identifier,
            "metadata": forms.metadata,
            "payment_intent": forms.identifier,
            "reason": forms.one_of("duplicate", "fraudulent", "requested_by_customer"),
        },
        refund,
    ),
    (
        "GET",
        "/v1/refunds",
        {**PAGING, "charge": forms.text(), "created": forms.created, "payment_intent": forms.text()},
        list_of("refund", "/v1/refunds", "charge", "payment_intent"),
    ),
    ("GET", "/v1/refunds/{id}", {}, retrieve("refund")),
    ("POST", "/v1/refunds/{id}", {"metadata": forms.metadata}, update),
]
