"""The API of invoices: read, made by hand, finalized, paid, given up."""

from . import balances, cards, forms, invoice_items, invoices, lifecycle, payment_methods
from .calls import Call, Handler, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .invoice_objects import new_invoice
from .invoices import Billed
from .lists import PAGING, page, part, same
from .paid_events import announce


def create(call: Call, params: Json) -> Json:
    """A draft by hand, for a customer or for one of their subscriptions. It is empty unless it takes what waits."""
    named = params.get("subscription")
    subscription = call.named("subscription", named, param="subscription") if named else None
    id = params.get("customer") or (subscription["customer"] if subscription else None)
    if id is None:
        raise bad_parameter("Missing required param: customer.", "customer", code="parameter_missing")
    customer = balances.alive(call, id)
    currency = (params.get("currency") or (subscription or {}).get("currency") or customer["currency"] or "usd").lower()
    taking = params.get("pending_invoice_items_behavior") == "include"
    waiting = invoice_items.waiting(call, id, named) if taking else []
    draft = new_invoice(call, customer, subscription, invoice_items.lines(call, waiting), "manual", currency=currency)
    given: Json = {
        "auto_advance": bool(params.get("auto_advance")),
        "collection_method": params.get("collection_method") or "charge_automatically",
        "description": params.get("description"),
        "metadata": forms.merge_metadata({}, params.get("metadata")),
    }
    if given["collection_method"] == "send_invoice":
        given["_days_until_due"] = params.get("days_until_due") or 30
    elif params.get("days_until_due") is not None:
        raise bad_parameter("You can only set `days_until_due` on an invoice that is sent.", "days_until_due")
    one = call.store.put("invoice", {**draft, **given})
    invoice_items.billed(call, waiting, one["id"])
    emit(call, "invoice.created", one)
    return one


def update(call: Call, params: Json) -> Json:
    old = call.named("invoice", params["id"])
    fields: Json = {name: params[name] for name in ("auto_advance", "description") if name in params}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    one = call.store.change("invoice", old["id"], **fields)
    emit(call, "invoice.updated", one, previous=old)
    return one


def finalize(call: Call, params: Json) -> Json:
    """What was put on the draft is summed up; nothing due is paid at once."""
    old = _in(call, params["id"], "finalize", "draft")
    items = [one for one in reversed(call.store.all("invoiceitem")) if one["invoice"] == old["id"]]
    customer = call.named("customer", old["customer"])
    named = ((old["parent"] or {}).get("subscription_details") or {}).get("subscription")
    subscription = call.find("subscription", named)
    if items:  # the lines of a hand-made draft are its items
        lines = invoice_items.lines(call, items)
        summed = new_invoice(call, customer, subscription, lines, "manual", currency=old["currency"])
        names = ("amount_due", "amount_remaining", "lines", "subtotal", "subtotal_excluding_tax", "total",
                 "total_discount_amounts", "total_excluding_tax", "total_taxes")  # fmt: skip
        lines_here = {**summed["lines"], "data": [{**one, "invoice": old["id"]} for one in summed["lines"]["data"]]}
        old = call.store.change("invoice", old["id"], **{name: summed[name] for name in names} | {"lines": lines_here})
    opened = invoices.finalize(call, old)
    emit(call, "invoice.finalized", opened)
    if subscription is not None:
        call.store.change("subscription", subscription["id"], latest_invoice=opened["id"])
    if opened["amount_due"] == 0:
        announce(call, Billed(opened, opened, opened := invoices.settled(call, opened)))
    return opened


def send(call: Call, params: Json) -> Json:
    """The customer gets the invoice by e-mail; a draft is finalized first. No mail leaves the sandbox."""
    one = call.named("invoice", params["id"])
    if one["collection_method"] != "send_invoice":
        raise refused("You can only manually send an invoice if its `collection_method` is `send_invoice`.")
    if one["status"] == "draft":
        one = finalize(call, {"id": one["id"]})
    emit(call, "invoice.sent", one)
    return one


def pay(call: Call, params: Json) -> Json:
    """By a card of the customer; a declined one is a 402 that leaves the attempt on record."""
    old = call.named("invoice", params["id"])
    if old["status"] == "draft":
        old = finalize(call, {"id": old["id"]})
    if old["status"] not in ("open", "uncollectible"):  # what was given up can be paid all the same
        raise refused(f"Invoice is already {old['status']}", code="invoice_not_editable")
    named = ((old["parent"] or {}).get("subscription_details") or {}).get("subscription")
    subscription = call.find("subscription", named)
    if params.get("paid_out_of_band"):
        billed = Billed(old, old, invoices.paid_elsewhere(call, old))
    else:
        billed = invoices.collect(call, old, _card(call, old, subscription, params))
    announce(call, billed)
    if subscription is not None:
        after = lifecycle.settle(call, subscription, billed)
        if after["status"] != subscription["status"]:
            emit(call, "customer.subscription.updated", after, previous=subscription)
    if billed.last["status"] == "open":
        if billed.charge is None:
            raise cards.asked("invoice_payment_intent_requires_action", "invoice")
        raise cards.declined(str(billed.charge["outcome"]["reason"]), charge=billed.charge["id"])
    return billed.last


def _card(call: Call, invoice: Json, subscription: Json | None, params: Json) -> Json:
    customer = call.named("customer", invoice["customer"])
    if params.get("payment_method"):
        return payment_methods.of_customer(call, customer, params["payment_method"], "payment_method")
    card = payment_methods.paying_for(call, customer, subscription)
    if card is None:
        raise refused(
            "There is no `default_payment_method` set on this Customer or Invoice. Please set a default payment method"
            " before attempting to pay this invoice.",
        )
    return card


def give_up(verb: str, status: str, event: str) -> Handler:
    def run(call: Call, params: Json) -> Json:
        old = _in(call, params["id"], verb, "open", "uncollectible")
        if status == "void":
            one, intents = invoices.void(call, old)
            for intent in intents:
                emit(call, "payment_intent.canceled", intent)
        else:
            one = invoices.closed(call, old, status)
        emit(call, event, one)
        lifecycle.given_up(call, one)
        return one

    return run


def delete(call: Call, params: Json) -> Json:
    one = _in(call, params["id"], "delete", "draft")
    call.store.remove("invoice", one["id"])
    emit(call, "invoice.deleted", one)
    return {"id": one["id"], "object": "invoice", "deleted": True}


def _in(call: Call, id: str, verb: str, *statuses: str) -> Json:
    one = call.named("invoice", id)
    if one["status"] not in statuses:
        raise refused(f"You can only {verb} an invoice that is {' or '.join(statuses)}. This one is {one['status']}.")
    return one


def list_invoices(call: Call, params: Json) -> Json:
    def keep(one: Json) -> bool:
        of = ((one["parent"] or {}).get("subscription_details") or {}).get("subscription")
        return same(of, params.get("subscription")) and all(
            same(one[name], params.get(name)) for name in ("status", "collection_method")
        )

    return page(call, "invoice", params, "/v1/invoices", customer=params.get("customer"), keep=keep)


def list_lines(call: Call, params: Json) -> Json:
    one = call.named("invoice", params["id"])
    return part(one["lines"]["data"], params, one["lines"]["url"])


def list_payments(call: Call, params: Json) -> Json:
    payment = params.get("payment") or {}

    def keep(one: Json) -> bool:
        return (
            same(one["invoice"], params.get("invoice"))
            and same(one["status"], params.get("status"))
            and same(one["payment"]["payment_intent"], payment.get("payment_intent"))
            and same(one["payment"]["type"], payment.get("type"))
        )

    return page(call, "invoice_payment", params, "/v1/invoice_payments", keep=keep)


_METHODS = forms.one_of("charge_automatically", "send_invoice")
_CHANGES: forms.Table = {"auto_advance": forms.boolean, "description": forms.text(), "metadata": forms.metadata}

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/invoices",
        {
            **_CHANGES,
            "collection_method": _METHODS,
            "currency": forms.text(3),
            "customer": forms.text(),
            "days_until_due": forms.integer(0),
            "pending_invoice_items_behavior": forms.one_of("exclude", "include"),
            "subscription": forms.text(),
        },
        create,
    ),
    (
        "GET",
        "/v1/invoices",
        {
            **PAGING,
            "collection_method": _METHODS,
            "created": forms.created,
            "customer": forms.text(),
            "status": forms.one_of("draft", "open", "paid", "uncollectible", "void"),
            "subscription": forms.text(),
        },
        list_invoices,
    ),
    ("GET", "/v1/invoices/{id}", {}, lambda call, params: call.named("invoice", params["id"])),
    ("POST", "/v1/invoices/{id}", _CHANGES, update),
    ("DELETE", "/v1/invoices/{id}", {}, delete),
    ("POST", "/v1/invoices/{id}/finalize", {}, finalize),
    (
        "POST",
        "/v1/invoices/{id}/pay",
        {"paid_out_of_band": forms.boolean, "payment_method": forms.identifier},
        pay,
    ),
    ("POST", "/v1/invoices/{id}/send", {}, send),
    ("POST", "/v1/invoices/{id}/void", {}, give_up("void", "void", "invoice.voided")),
    (
        "POST",
        "/v1/invoices/{id}/mark_uncollectible",
        {},
        give_up("mark", "uncollectible", "invoice.marked_uncollectible"),
    ),
    ("GET", "/v1/invoices/{id}/lines", PAGING, list_lines),
    (
        "GET",
        "/v1/invoice_payments",
        {
            **PAGING,
            "created": forms.created,
            "invoice": forms.text(),
            "payment": forms.table({"payment_intent": forms.text(), "type": forms.text()}),
            "status": forms.one_of("canceled", "open", "paid"),
        },
        list_payments,
    ),
    ("GET", "/v1/invoice_payments/{id}", {}, lambda call, params: call.named("invoice_payment", params["id"])),
]
