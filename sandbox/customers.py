"""Customers. A deleted one stays as a tombstone: retrieving it answers `deleted: true`, naming it is refused."""

from typing import Any

from . import balances, clock_limits, forms, lifecycle, payment_methods, sources
from .calls import Call, Route
from .errors import Json
from .events import emit
from .lists import PAGING, page, same

_ADDRESS = forms.table({name: forms.text() for name in ("city", "country", "line1", "line2", "postal_code", "state")})

_FIELDS: forms.Table = {
    "address": _ADDRESS,
    "balance": forms.integer(),
    "business_name": forms.text(150),
    "description": forms.text(),
    "email": forms.text(512),
    "individual_name": forms.text(150),
    "invoice_prefix": forms.text(12, pattern="[A-Z0-9]{3,12}"),
    "invoice_settings": forms.table({"default_payment_method": forms.text(), "footer": forms.text()}),
    "metadata": forms.metadata,
    "name": forms.text(256),
    "next_invoice_sequence": forms.integer(1),
    "phone": forms.text(20),
    "preferred_locales": forms.items(forms.identifier),
    "shipping": forms.table({"address": _ADDRESS, "name": forms.text(), "phone": forms.text()}),
    "source": forms.identifier,
    "tax_exempt": forms.one_of("none", "exempt", "reverse"),
}
_NEW: forms.Table = {**_FIELDS, "payment_method": forms.identifier, "test_clock": forms.text()}
_KEPT = (
    "address",
    "business_name",
    "description",
    "email",
    "individual_name",
    "invoice_prefix",
    "name",
    "next_invoice_sequence",
    "phone",
    "preferred_locales",
    "shipping",
    "tax_exempt",
)


def create(call: Call, params: Json) -> Json:
    if params.get("test_clock"):
        call.named("test_clock", params["test_clock"], noun="billingclock", param="test_clock")
        clock_limits.check_customers(call)
    return made(call, **params)


def made(call: Call, **fields: Any) -> Json:
    """A new customer and its event, from a request or from a Checkout that had none."""
    one = blank(call)
    one["metadata"] = forms.merge_metadata({}, fields.get("metadata"))
    one.update({name: fields[name] for name in _KEPT if fields.get(name) is not None})
    one["balance"] = fields.get("balance") or 0
    call.store.put("customer", one)
    card = payment_methods.attached(call, one, fields["payment_method"]) if fields.get("payment_method") else None
    if settings := fields.get("invoice_settings"):
        if card and settings.get("default_payment_method") in (fields["payment_method"], card["id"]):
            settings = {**settings, "default_payment_method": card["id"]}
        one = call.store.change("customer", one["id"], invoice_settings=_settings(call, one, settings))
    emit(call, "customer.created", one)
    return sources.given(call, one, fields["source"]) if fields.get("source") else one


def _settings(call: Call, old: Json, sent: Json) -> Json:
    """The invoice settings after a change."""
    if sent.get("default_payment_method"):
        id = sent["default_payment_method"]
        payment_methods.of_customer(call, old, id, "invoice_settings[default_payment_method]")
    return {**old["invoice_settings"], **sent}


def blank(call: Call) -> Json:
    return {
        "id": call.store.new_id("cus_", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": call.now,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": call.store.new_id("", 8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": call.livemode,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": call.test_clock,
    }


def retrieve(call: Call, params: Json) -> Json:
    one = call.named("customer", params["id"])
    return _tombstone(one) if one.get("deleted") else one


def update(call: Call, params: Json) -> Json:
    old = balances.alive(call, params["id"], param="id")
    fields: Json = {name: params[name] for name in _KEPT if name in params}
    if params.get("invoice_settings"):
        fields["invoice_settings"] = _settings(call, old, params["invoice_settings"])
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    if params.get("source"):
        fields["default_source"] = sources.given(call, old, params["source"])["default_source"]
    one = changed(call, old, **fields)
    if params.get("balance") not in (None, old["balance"]):
        change = params["balance"] - old["balance"]
        balances.moved(call, one, change, one["currency"] or "usd", "adjustment")
    return call.named("customer", one["id"])


def give_card(call: Call, old: Json, token: str) -> Json:
    """A test card, attached and the customer's default."""
    card = payment_methods.attached(call, old, token)
    changed(call, old, invoice_settings={**old["invoice_settings"], "default_payment_method": card["id"]})
    return card


def changed(call: Call, old: Json, **fields: Any) -> Json:
    one = call.store.change("customer", old["id"], **fields)
    emit(call, "customer.updated", one, previous=old)
    return one


def delete(call: Call, params: Json) -> Json:
    old = balances.alive(call, params["id"], param="id")
    lifecycle.cancel_all_of(call, old["id"])
    call.store.change("customer", old["id"], deleted=True)
    emit(call, "customer.deleted", old)
    return _tombstone(old)


def list_customers(call: Call, params: Json) -> Json:
    """Those of one test clock, or else those of none."""
    email, clock = params.get("email"), params.get("test_clock")
    return page(
        call,
        "customer",
        params,
        "/v1/customers",
        keep=lambda one: same(one["email"], email) and one["test_clock"] == clock,
    )


def _tombstone(one: Json) -> Json:
    return {"id": one["id"], "object": "customer", "deleted": True}


ROUTES: list[Route] = [
    ("POST", "/v1/customers", _NEW, create),
    (
        "GET",
        "/v1/customers",
        {**PAGING, "created": forms.created, "email": forms.text(512), "test_clock": forms.text()},
        list_customers,
    ),
    ("GET", "/v1/customers/{id}", {}, retrieve),
    ("POST", "/v1/customers/{id}", _FIELDS, update),
    ("DELETE", "/v1/customers/{id}", {}, delete),
]
