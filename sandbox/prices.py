"""The catalog: products and their prices."""

from typing import Any

from . import forms
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, page

_EXPAND = forms.items(forms.identifier, 20)
_INTERVALS = forms.one_of("day", "week", "month", "year")


# Products ---------------------------------------------------------------------------------------------------------


def product_fields(call: Call, params: Json) -> Json:
    return {
        "id": params.get("id") or call.store.new_id("prod_", 14),
        "object": "product",
        "active": params.get("active") is not False,
        "created": call.now,
        "default_price": params.get("default_price"),
        "description": params.get("description"),
        "images": params.get("images") or [],
        "livemode": call.livemode,
        "marketing_features": params.get("marketing_features") or [],
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "name": params.get("name") or "A product",
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": params.get("statement_descriptor"),
        "tax_code": params.get("tax_code"),
        "type": "service",
        "unit_label": params.get("unit_label"),
        "updated": call.now,
        "url": params.get("url"),
    }


def create_product(call: Call, params: Json) -> Json:
    forms.require(params, "name")
    check_id(call, "product", params)
    one = call.store.put("product", product_fields(call, params))
    emit(call, "product.created", one)
    return one


def update_product(call: Call, params: Json) -> Json:
    return update(call, "product", params, updated=call.now)


# Prices -----------------------------------------------------------------------------------------------------------


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
            "meter": None,
            "trial_period_days": recurring.get("trial_period_days"),
            "usage_type": "licensed",
        },
        "tax_behavior": params.get("tax_behavior") or "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time" if recurring is None else "recurring",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }


def create_price(call: Call, params: Json) -> Json:
    forms.require(params, "currency")
    if "unit_amount" not in params:
        raise bad_parameter(
            "Prices require an `unit_amount` parameter to be set.", "unit_amount", code="parameter_missing"
        )
    if params.get("recurring") is not None and not params["recurring"].get("interval"):
        raise bad_parameter(
            "Missing required param: recurring[interval].", "recurring[interval]", code="parameter_missing"
        )
    if params.get("product_data"):
        product = create_product(call, params["product_data"])["id"]
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
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


# What coupons share ---------------------------------------------------------------------------------------------


def check_id(call: Call, kind: str, params: Json) -> None:
    if params.get("id") and call.store.get(kind, params["id"]) is not None:
        raise refused(f"{kind.capitalize()} already exists.", code="resource_already_exists", param="id")


def update(call: Call, kind: str, params: Json, **also: Any) -> Json:
    old = call.named(kind, params["id"])
    fields = {name: value for name, value in params.items() if name not in ("id", "metadata", "expand")}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    one = call.store.change(kind, old["id"], **fields, **also)
    emit(call, f"{kind}.updated", one, previous=old)
    return one


def same(one: Json, params: Json, *names: str) -> bool:
    return all(params.get(name) is None or one[name] == params[name] for name in names)


def retrieve(kind: str) -> Any:
    return lambda call, params: call.named(kind, params["id"])


_PRODUCT: forms.Table = {
    "active": forms.boolean,
    "default_price": forms.text(),
    "description": forms.text(),
    "expand": _EXPAND,
    "images": forms.items(forms.identifier, 8),
    "marketing_features": forms.anything,
    "metadata": forms.metadata,
    "name": forms.identifier,
    "statement_descriptor": forms.text(22),
    "tax_code": forms.text(),
    "unit_label": forms.text(12),
    "url": forms.text(),
}

ROUTES: list[Route] = [
    ("POST", "/v1/products", {**_PRODUCT, "id": forms.identifier}, create_product),
    (
        "GET",
        "/v1/products",
        {**PAGING, "created": forms.created, "active": forms.boolean, "ids": forms.items(forms.identifier)},
        lambda call, params: page(
            call,
            "product",
            params,
            "/v1/products",
            keep=lambda one: same(one, params, "active") and (not params.get("ids") or one["id"] in params["ids"]),
        ),
    ),
    ("GET", "/v1/products/{id}", {}, retrieve("product")),
    ("POST", "/v1/products/{id}", _PRODUCT, update_product),
    (
        "POST",
        "/v1/prices",
        {
            "active": forms.boolean,
            "billing_scheme": forms.one_of("per_unit"),
            "currency": forms.text(3, pattern="[A-Za-z]{3}"),
            "expand": _EXPAND,
            "lookup_key": forms.text(200),
            "metadata": forms.metadata,
            "nickname": forms.text(),
            "product": forms.identifier,
            "product_data": forms.table({**_PRODUCT, "id": forms.identifier}),
            "recurring": forms.table(
                {
                    "interval": _INTERVALS,
                    "interval_count": forms.integer(1, 1095),
                    "trial_period_days": forms.integer(0, 730),
                    "usage_type": forms.one_of("licensed"),
                }
            ),
            "tax_behavior": forms.one_of("exclusive", "inclusive", "unspecified"),
            **forms.unsupported(
                "currency_options",
                "custom_unit_amount",
                "tiers",
                "tiers_mode",
                "transfer_lookup_key",
                "transform_quantity",
                "unit_amount_decimal",
            ),
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
            "expand": _EXPAND,
            "lookup_key": forms.text(200),
            "metadata": forms.metadata,
            "nickname": forms.text(),
            "tax_behavior": forms.one_of("exclusive", "inclusive", "unspecified"),
        },
        update_price,
    ),
]
