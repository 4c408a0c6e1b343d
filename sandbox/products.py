"""Products of the catalog."""

from . import forms
from .calls import Call, Route
from .errors import Json, refused
from .events import emit
from .lists import PAGING, page
from .resources import check_id, retrieve, same, update


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


def delete_product(call: Call, params: Json) -> Json:
    one = call.named("product", params["id"])
    if any(price["product"] == one["id"] for price in call.store.all("price")):
        raise refused("This product cannot be deleted because it has one or more user-created prices.")
    call.store.remove("product", one["id"])
    emit(call, "product.deleted", one)
    return {"id": one["id"], "object": "product", "deleted": True}


PARAMETERS: forms.Table = {
    "active": forms.boolean,
    "description": forms.text(),
    "images": forms.items(forms.identifier, 8),
    "marketing_features": forms.items(forms.table({"name": forms.identifier}), 15),
    "metadata": forms.metadata,
    "name": forms.identifier,
    "statement_descriptor": forms.text(22),
    "tax_code": forms.text(),
    "unit_label": forms.text(12),
    "url": forms.text(),
}

ROUTES: list[Route] = [
    ("POST", "/v1/products", {**PARAMETERS, "id": forms.identifier}, create_product),
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
    ("DELETE", "/v1/products/{id}", {}, delete_product),
    ("POST", "/v1/products/{id}", {**PARAMETERS, "default_price": forms.text()}, update_product),
]
