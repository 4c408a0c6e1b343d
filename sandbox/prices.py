"""Prices of the catalog's products."""

from . import forms, products
from .calls import Call, Route
from .errors import Json, bad_parameter
from .events import emit
from .lists import PAGING, page
from .resources import retrieve, same, update

_OF_PRODUCT = ("active", "metadata", "name", "statement_descriptor", "tax_code", "unit_label")
_INTERVALS = forms.one_of("day", "week", "month", "year")


def price_fields(call: Call, params: Json) -> Json:
    recurring = params.get("recurring")
    amount = params.get("unit_amount") or 0
    return {
        "id": params.get("id") or call.store.new_id("price_1"),
        "object": "price",
        "active": params.get("active") is not False,
        "billing_scheme": "per_unit",
        "created": call.now,
        "currency": (params.get("currency") or "usd").lower(),
        "custom_unit_amount": None,
        "livemode": call.livemode,
        "lookup_key": params.get("lookup_key"),
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "nickname": params.get("nickname"),
        "product": params.get("product"),
        "recurring": None
        if recurring is None
        else {
            "interval": recurring.get("interval") or "month",
            "interval_count": recurring.get("interval_count") or 1,
            "meter": recurring.get("meter"),
            "trial_period_days": None,
            "usage_type": recurring.get("usage_type") or "licensed",
        },
        "tax_behavior": params.get("tax_behavior") or "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time" if recurring is None else "recurring",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
        **({"_currency_options": params["currency_options"]} if params.get("currency_options") else {}),
    }


def create_price(call: Call, params: Json) -> Json:
    forms.require(params, "currency")
    if params.get("unit_amount") is None:
        raise bad_parameter(
            "Prices require an `unit_amount` parameter to be set.", "unit_amount", code="parameter_missing"
        )
    if params.get("recurring") is not None and not params["recurring"].get("interval"):
        raise bad_parameter(
            "Missing required param: recurring[interval].", "recurring[interval]", code="parameter_missing"
        )
    if (recurring := params.get("recurring") or {}).get("usage_type") == "metered" and not recurring.get("meter"):
        raise bad_parameter("Metered prices must be backed by a meter.", "recurring[meter]", code="parameter_missing")
    if params.get("product_data") and params.get("product"):
        raise bad_parameter("You may only specify one of these parameters: product, product_data.", "product")
    if params.get("product_data"):
        product = products.create_product(call, params["product_data"])["id"]
    elif params.get("product"):
        product = call.named("product", params["product"], param="product")["id"]
    else:
        raise bad_parameter("Missing required param: product.", "product", code="parameter_missing")
    one = call.store.put("price", price_fields(call, {**params, "product": product}))
    emit(call, "price.created", one)
    return one


def update_price(call: Call, params: Json) -> Json:
    return update(call, "price", params)


def list_prices(call: Call, params: Json) -> Json:
    keys = params.get("lookup_keys")

    def keep(one: Json) -> bool:
        return same(one, params, "active", "product", "type", "currency") and (not keys or one["lookup_key"] in keys)

    return page(call, "price", params, "/v1/prices", keep=keep)


def other_currencies(call: Call, id: str) -> Json:
    """What else it is sold in, by currency. Only seeds have some; Stripe leaves it out unless it is asked for."""
    return (call.store.get("price", id) or {}).get("_currency_options") or {}


def plan_of(price: Json) -> Json:
    """The older name of a recurring price, which subscription items still carry."""
    recurring = price["recurring"] or {}
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring.get("interval"),
        "interval_count": recurring.get("interval_count"),
        "livemode": price["livemode"],
        "metadata": price["metadata"],
        "meter": recurring.get("meter"),
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": recurring.get("usage_type"),
    }


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/prices",
        {
            "active": forms.boolean,
            "billing_scheme": forms.one_of("per_unit"),
            "currency": forms.text(3, pattern="[A-Za-z]{3}"),
            "lookup_key": forms.text(200),
            "metadata": forms.metadata,
            "nickname": forms.text(),
            "product": forms.identifier,
            "product_data": forms.table(
                {name: products.PARAMETERS[name] for name in _OF_PRODUCT} | {"id": forms.identifier}
            ),
            "recurring": forms.table(
                {
                    "interval": _INTERVALS,
                    "interval_count": forms.integer(1, 1095),
                    "meter": forms.identifier,
                    "usage_type": forms.one_of("licensed", "metered"),
                }
            ),
            "tax_behavior": forms.one_of("exclusive", "inclusive", "unspecified"),
            "unit_amount": forms.integer(0, 99_999_999),
        },
        create_price,
    ),
    (
        "GET",
        "/v1/prices",
        {
            **PAGING,
            "active": forms.boolean,
            "created": forms.created,
            "currency": forms.text(3),
            "lookup_keys": forms.items(forms.identifier, 10),
            "product": forms.text(),
            "type": forms.one_of("one_time", "recurring"),
        },
        list_prices,
    ),
    ("GET", "/v1/prices/{id}", {}, retrieve("price")),
    (
        "POST",
        "/v1/prices/{id}",
        {
            "active": forms.boolean,
            "lookup_key": forms.text(200),
            "metadata": forms.metadata,
            "nickname": forms.text(),
            "tax_behavior": forms.one_of("exclusive", "inclusive", "unspecified"),
        },
        update_price,
    ),
]
