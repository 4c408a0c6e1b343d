"""Tax rates: a percentage that is part of a price (inclusive) or added to it. They cannot be deleted."""

from . import forms
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, page
from .resources import retrieve, same, update

PARAMETER = forms.items(forms.identifier, 5)


def create(call: Call, params: Json) -> Json:
    forms.require(params, "display_name")
    for name in ("percentage", "inclusive"):
        if params.get(name) is None:
            raise bad_parameter(f"Missing required param: {name}.", name, code="parameter_missing")
    if not 0 <= params["percentage"] <= 100:
        raise bad_parameter("Invalid percentage: must be between 0 and 100.", "percentage")
    one = call.store.put("tax_rate", fields(call, params))
    emit(call, "tax_rate.created", one)
    return one


def fields(call: Call, params: Json) -> Json:
    return {
        "id": params.get("id") or call.store.new_id("txr_1"),
        "object": "tax_rate",
        "active": params.get("active") is not False,
        "country": params.get("country"),
        "created": call.now,
        "description": params.get("description"),
        "display_name": params.get("display_name") or "Tax",
        "effective_percentage": None,
        "flat_amount": None,
        "inclusive": bool(params.get("inclusive")),
        "jurisdiction": params.get("jurisdiction"),
        "jurisdiction_level": None,
        "livemode": call.livemode,
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "percentage": params.get("percentage") or 0.0,
        "rate_type": "percentage",
        "state": params.get("state"),
        "tax_type": params.get("tax_type"),
    }


def wanted(call: Call, ids: list[str] | None, param: str) -> list[Json]:
    """The rates that a parameter names, each of them active."""
    found = [call.named("tax_rate", id, param=f"{param}[{index}]") for index, id in enumerate(ids or [])]
    for index, one in enumerate(found):
        if not one["active"]:
            raise refused(f"The tax rate {one['id']} is not active.", param=f"{param}[{index}]")
    return found


_CHANGES: forms.Table = {
    "active": forms.boolean,
    "country": forms.text(5),
    "description": forms.text(),
    "display_name": forms.identifier,
    "jurisdiction": forms.text(50),
    "metadata": forms.metadata,
    "state": forms.text(3),
    "tax_type": forms.one_of("gst", "hst", "jct", "pst", "qst", "rst", "sales_tax", "service_tax", "vat"),
}

ROUTES: list[Route] = [
    ("POST", "/v1/tax_rates", {**_CHANGES, "inclusive": forms.boolean, "percentage": forms.number}, create),
    (
        "GET",
        "/v1/tax_rates",
        {**PAGING, "active": forms.boolean, "created": forms.created, "inclusive": forms.boolean},
        lambda call, params: page(
            call, "tax_rate", params, "/v1/tax_rates", keep=lambda one: same(one, params, "active", "inclusive")
        ),
    ),
    ("GET", "/v1/tax_rates/{id}", {}, retrieve("tax_rate")),
    ("POST", "/v1/tax_rates/{id}", _CHANGES, lambda call, params: update(call, "tax_rate", params)),
]
