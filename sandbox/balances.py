"""A customer's balance: credit (below zero) that pays invoices, or a debt that is added to the next one.

Every change of it is a transaction. A customer is bound to one currency by the first one that bills or credits them.
"""

from . import forms
from .calls import Call, Route
from .errors import Json, bad_parameter, missing_object, refused
from .events import emit
from .lists import PAGING, page


def alive(call: Call, id: str, *, param: str = "customer") -> Json:
    """The customer, unless it never was or is deleted."""
    one = call.named("customer", id, param=param)
    if one.get("deleted"):
        raise missing_object("customer", id, param=param, status=404 if param == "id" else 400)
    return one


def bound(call: Call, customer: Json, currency: str, param: str | None = None) -> Json:
    """The customer, whose currency is this one from here on. Another one is refused. The caller announces it."""
    now = call.store.get("customer", customer["id"]) or customer
    check_currency(now, currency, param)
    return now if now["currency"] == currency else call.store.change("customer", now["id"], currency=currency)


def check_currency(customer: Json, currency: str, param: str | None = None) -> None:
    if customer["currency"] not in (None, currency):
        raise refused(
            "You cannot combine currencies on a single customer. This customer has an active subscription,"
            " subscription schedule, discount, quote, or invoice item with currency"
            f" {customer['currency']}.",
            param=param,
        )


def moved(
    call: Call,
    customer: Json,
    amount: int,
    currency: str,
    type: str,
    *,
    invoice: str | None = None,
    description: str | None = None,
    metadata: Json | None = None,
) -> Json:
    """One transaction: `amount` is added to the balance, so a negative one is a credit."""
    now = bound(call, customer, currency, "currency")
    one = call.store.put(
        "customer_balance_transaction",
        {
            "id": call.store.new_id("cbtxn_1"),
            "object": "customer_balance_transaction",
            "amount": amount,
            "checkout_session": None,
            "created": call.now,
            "credit_note": None,
            "currency": currency,
            "customer": customer["id"],
            "customer_account": None,
            "description": description,
            "ending_balance": now["balance"] + amount,
            "invoice": invoice,
            "livemode": call.livemode,
            "metadata": forms.merge_metadata({}, metadata),
            "type": type,
        },
    )
    after = call.store.change("customer", now["id"], balance=one["ending_balance"])
    emit(call, "customer.updated", after, previous=now)
    return one


def create(call: Call, params: Json) -> Json:
    customer = alive(call, params["id"], param="id")
    forms.require(params, "currency")
    if params.get("amount") is None:
        raise bad_parameter("Missing required param: amount.", "amount", code="parameter_missing")
    return moved(
        call,
        customer,
        params["amount"],
        params["currency"].lower(),
        "adjustment",
        description=params.get("description"),
        metadata=params.get("metadata"),
    )


def retrieve(call: Call, params: Json) -> Json:
    customer = call.named("customer", params["id"])
    one = call.find("customer_balance_transaction", params["other"])
    if one is None or one["customer"] != customer["id"]:
        raise missing_object("customer_balance_transaction", params["other"])
    return one


def update(call: Call, params: Json) -> Json:
    old = retrieve(call, params)
    fields = {name: params[name] for name in ("description",) if name in params}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    return call.store.change("customer_balance_transaction", old["id"], **fields)


def list_transactions(call: Call, params: Json) -> Json:
    customer = call.named("customer", params["id"])

    def keep(one: Json) -> bool:
        return params.get("invoice") in (None, one["invoice"])

    url = f"/v1/customers/{customer['id']}/balance_transactions"
    return page(call, "customer_balance_transaction", params, url, customer=customer["id"], keep=keep)


_CHANGES: forms.Table = {
    "description": forms.text(350),
    "metadata": forms.metadata,
}
_ALL = "/v1/customers/{id}/balance_transactions"

ROUTES: list[Route] = [
    (
        "POST",
        _ALL,
        {**_CHANGES, "amount": forms.integer(), "currency": forms.text(3, pattern="[A-Za-z]{3}")},
        create,
    ),
    ("GET", _ALL, {**PAGING, "created": forms.created, "invoice": forms.text()}, list_transactions),
    ("GET", _ALL + "/{other}", {}, retrieve),
    ("POST", _ALL + "/{other}", _CHANGES, update),
]
