"""Refunds: the whole of a charge or a part of it."""

from . import forms
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, whole
from .payments import list_of, retrieve


def refund(call: Call, params: Json) -> Json:
    """The whole of a charge or a part of it; never more than is left."""
    if params.get("payment_intent"):
        intent = call.named("payment_intent", params["payment_intent"], param="payment_intent")
        if intent["latest_charge"] is None or intent["status"] != "succeeded":
            raise refused(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                param="payment_intent",
            )
        paid = call.named("charge", intent["latest_charge"])
    elif params.get("charge"):
        paid = call.named("charge", params["charge"], param="charge")
    else:
        raise bad_parameter(
            "One of the following params should be provided for this request: payment_intent or charge.", "charge"
        )
    left = paid["amount_captured"] - paid["amount_refunded"]
    amount = params.get("amount") or left
    if left == 0:
        raise refused(f"Charge {paid['id']} has already been refunded.", code="charge_already_refunded", param="charge")
    if amount > left:
        raise refused(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
    made = call.store.put(
        "refund",
        {
            "id": call.store.new_id("re_3"),
            "object": "refund",
            "amount": amount,
            "balance_transaction": call.store.new_id("txn_3"),
            "charge": paid["id"],
            "created": call.now,
            "currency": paid["currency"],
            "destination_details": {"card": {"reference_status": "pending", "type": "refund"}, "type": "card"},
            "metadata": forms.merge_metadata({}, params.get("metadata")),
            "payment_intent": paid["payment_intent"],
            "reason": params.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        },
    )
    total = paid["amount_refunded"] + amount
    after = call.store.change("charge", paid["id"], amount_refunded=total, refunded=total == paid["amount_captured"])
    emit(call, "refund.created", made)
    emit(call, "charge.refunded", after, previous=paid)
    return made


def _charge_refunds(call: Call, params: Json) -> Json:
    paid = call.named("charge", params["id"])
    return whole(
        [one for one in call.store.newest_first("refund") if one["charge"] == paid["id"]],
        f"/v1/charges/{paid['id']}/refunds",
    )


ROUTES: list[Route] = [
    ("GET", "/v1/charges/{id}/refunds", {}, _charge_refunds),
    (
        "POST",
        "/v1/refunds",
        {
            "amount": forms.integer(1),
            "charge": forms.identifier,
            "expand": forms.items(forms.identifier, 20),
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
]
