"""Disputes: a buyer goes to the bank about a charge. Nobody can make one by the API; the control plane does."""

from . import forms
from .calls import Call, Route
from .errors import ApiError, Json, refused
from .events import emit
from .lists import PAGING
from .payments import list_of, retrieve

STATUSES = frozenset(
    {
        "warning_needs_response",
        "warning_under_review",
        "warning_closed",
        "needs_response",
        "under_review",
        "won",
        "lost",
        "prevented",
    }
)
_CLOSED = frozenset({"won", "lost", "warning_closed"})


def dispute(call: Call, charge_id: str, status: str) -> Json:
    """A charge is disputed, or its dispute goes on to this status."""
    if status not in STATUSES:
        raise ApiError(400, f"status must be one of {', '.join(sorted(STATUSES))}", param="status")
    charge = call.named("charge", charge_id)
    call.livemode = bool(charge["livemode"])
    known = next((one for one in call.store.newest_first("dispute") if one["charge"] == charge_id), None)
    if known is not None:
        after = call.store.change("dispute", known["id"], status=status)
        emit(call, f"charge.dispute.{'closed' if status in _CLOSED else 'updated'}", after, previous=known)
        return after
    call.store.change("charge", charge_id, disputed=True)
    made = call.store.put(
        "dispute",
        {
            "id": call.store.new_id("du_1"),
            "object": "dispute",
            "amount": charge["amount"],
            "balance_transactions": [],
            "charge": charge_id,
            "created": call.wall,
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {"enhanced_evidence": {}},
            "evidence_details": {
                "due_by": None,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": False,
            "livemode": call.livemode,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": "general",
            "status": status,
        },
    )
    emit(call, "charge.dispute.created", made)
    return made


def update(call: Call, params: Json) -> Json:
    old = call.named("dispute", params["id"])
    if "metadata" not in params:
        return old
    one = call.store.change("dispute", old["id"], metadata=forms.merge_metadata(old["metadata"], params["metadata"]))
    emit(call, "charge.dispute.updated", one, previous=old)
    return one


def close(call: Call, params: Json) -> Json:
    """The seller gives in: a dispute is lost, an inquiry is over."""
    old = call.named("dispute", params["id"])
    if old["status"] not in ("needs_response", "warning_needs_response"):
        raise refused(f"This dispute is already {old['status']}.")
    return dispute(call, old["charge"], "lost" if old["status"] == "needs_response" else "warning_closed")


ROUTES: list[Route] = [
    (
        "GET",
        "/v1/disputes",
        {**PAGING, "charge": forms.text(), "created": forms.created, "payment_intent": forms.text()},
        list_of("dispute", "/v1/disputes", "charge", "payment_intent"),
    ),
    ("GET", "/v1/disputes/{id}", {}, retrieve("dispute")),
    ("POST", "/v1/disputes/{id}", {"metadata": forms.metadata}, update),
    ("POST", "/v1/disputes/{id}/close", {}, close),
]
