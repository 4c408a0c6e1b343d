"""Customers. A deleted one stays as a tombstone: retrieving it answers `deleted: true`, naming it is refused."""

from typing import Any

from . import forms, lifecycle
from .calls import Call, Route
from .errors import Json, missing_object
from .events import emit
from .lists import PAGING, page

_ADDRESS = forms.table({name: forms.text() for name in ("city", "country", "line1", "line2", "postal_code", "state")})

_FIELDS: forms.Table = {
    **forms.unsupported("cash_balance", "tax_id_data", "test_clock"),
    "address": _ADDRESS,
    "balance": forms.integer(),
    "description": forms.text(),
    "email": forms.text(512),
    "expand": forms.items(forms.identifier, 20),
    "invoice_prefix": forms.text(12),
    "invoice_settings": forms.anything,
    "metadata": forms.metadata,
    "name": forms.text(256),
    "next_invoice_sequence": forms.integer(1),
    "payment_method": forms.absent("payment methods are made by paying"),
    "phone": forms.text(20),
    "preferred_locales": forms.items(forms.identifier),
    "shipping": forms.anything,
    "source": forms.absent("payment methods are made by paying"),
    "tax": forms.anything,
    "tax_exempt": forms.one_of("none", "exempt", "reverse"),
    "business_name": forms.text(150),
    "individual_name": forms.text(150),
}
_KEPT = (
    "address",
    "business_name",
    "description",
    "email",
    "individual_name",
    "name",
    "phone",
    "preferred_locales",
    "shipping",
)


def create(call: Call, params: Json) -> Json:
    return made(call, **params)


def made(call: Call, **fields: Any) -> Json:
    """A new customer and its event, from a request or from a Checkout that had none."""
    one = blank(call)
    one["metadata"] = forms.merge_metadata({}, fields.get("metadata"))
    names = (*_KEPT, "balance", "invoice_prefix", "next_invoice_sequence", "tax_exempt")
    one.update({name: fields[name] for name in names if fields.get(name) is not None})
    call.store.put("customer", one)
    emit(call, "customer.created", one)
    return one


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
        "test_clock": None,
    }


def retrieve(call: Call, params: Json) -> Json:
    one = call.named("customer", params["id"])
    return _tombstone(one) if one.get("deleted") else one


def update(call: Call, params: Json) -> Json:
    old = alive(call, params["id"], param="id")
    fields: Json = {
        name: params[name]
        for name in (*_KEPT, "balance", "tax_exempt", "invoice_prefix", "next_invoice_sequence")
        if name in params
    }
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    return changed(call, old, **fields)


def changed(call: Call, old: Json, **fields: Any) -> Json:
    one = call.store.change("customer", old["id"], **fields)
    emit(call, "customer.updated", one, previous=old)
    return one


def delete(call: Call, params: Json) -> Json:
    old = alive(call, params["id"], param="id")
    lifecycle.cancel_all_of(call, old["id"])
    call.store.change("customer", old["id"], deleted=True)
    emit(call, "customer.deleted", old)
    return _tombstone(old)


def list_customers(call: Call, params: Json) -> Json:
    email = params.get("email")
    return page(call, "customer", params, "/v1/customers", keep=lambda one: email is None or one["email"] == email)


def alive(call: Call, id: str, *, param: str = "customer") -> Json:
    """The customer, unless it never was or is deleted."""
    one = call.named("customer", id, param=param)
    if one.get("deleted"):
        raise missing_object("customer", id, param=param, status=404 if param == "id" else 400)
    return one


def _tombstone(one: Json) -> Json:
    return {"id": one["id"], "object": "customer", "deleted": True}


ROUTES: list[Route] = [
    ("POST", "/v1/customers", _FIELDS, create),
    ("GET", "/v1/customers", {**PAGING, "created": forms.created, "email": forms.text(512)}, list_customers),
    ("GET", "/v1/customers/{id}", {}, retrieve),
    ("POST", "/v1/customers/{id}", _FIELDS, update),
    ("DELETE", "/v1/customers/{id}", {}, delete),
]
