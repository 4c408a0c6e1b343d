"""`expand[]`: ids replaced by what they name, along a dotted path, `data.` first in a list."""

from typing import Any

from .calls import Call
from .errors import ApiError, Json
from .events import visible
from .invoices import payments_of
from .lists import whole
from .prices import other_currencies

_KIND_OF_FIELD = {
    "balance_transaction": None,
    "charge": "charge",
    "configuration": "billing_portal_configuration",
    "coupon": "coupon",
    "customer": "customer",
    "default_payment_method": "payment_method",
    "discounts": "discount",
    "discount": "discount",
    "invoice": "invoice",
    "latest_charge": "charge",
    "latest_invoice": "invoice",
    "payment_intent": "payment_intent",
    "payment_link": "payment_link",
    "payment_method": "payment_method",
    "price": "price",
    "default_price": "price",
    "product": "product",
    "released_subscription": "subscription",
    "schedule": "subscription_schedule",
    "subscription": "subscription",
    "test_clock": "test_clock",
}
_DEEPEST = 4  # each `data` of a list counts


def expand(call: Call, answer: Json, paths: list[str]) -> Json:
    for path in paths:
        parts = path.split(".")
        if len(parts) > _DEEPEST:
            raise ApiError(400, f"You cannot expand more than {_DEEPEST} levels of a property. Property: {path}")
        answer = _walk(call, answer, parts, path)
    return answer


def _walk(call: Call, node: Any, parts: list[str], path: str) -> Any:
    if not parts:
        return node
    if isinstance(node, list):
        return [_walk(call, each, parts, path) for each in node]
    if node is None:
        return None
    if not isinstance(node, dict):
        raise _unknown(path)
    name, rest = parts[0], parts[1:]
    value: Any = _included(call, node, name)
    if value is None:
        if name not in node:
            raise _unknown(path)
        value = node[name]
    kind = _KIND_OF_FIELD.get(name)
    if isinstance(value, str):
        if kind is None:
            raise _unknown(path)
        value = _object(call, kind, value)
    elif isinstance(value, list) and kind is not None:
        value = [_object(call, kind, each) if isinstance(each, str) else each for each in value]
    return {**node, name: _walk(call, value, rest, path)}


def _included(call: Call, node: Json, name: str) -> Json | None:
    """What is left out unless it is asked for."""
    match node.get("object"), name:
        case "checkout.session", "line_items":
            lines = (call.store.get("checkout_session", node["id"]) or {}).get("_lines", [])
            return whole([visible(one) for one in lines], f"/v1/checkout/sessions/{node['id']}/line_items")
        case "invoice", "payments":
            return whole(payments_of(call, node["id"]), "/v1/invoice_payments")
        case "price", "currency_options":
            own = {name: node[name] for name in ("tax_behavior", "unit_amount", "unit_amount_decimal")}
            return {node["currency"]: {"custom_unit_amount": None, **own}, **other_currencies(call, node["id"])}
        case "charge", "refunds":
            refunds = [one for one in call.store.newest_first("refund") if one["charge"] == node["id"]]
            return whole(refunds, f"/v1/charges/{node['id']}/refunds")
        case "customer", "subscriptions":
            alive = [
                one
                for one in call.store.newest_first("subscription", customer=node["id"])
                if one["status"] != "canceled"
            ]
            return whole([visible(one) for one in alive], f"/v1/customers/{node['id']}/subscriptions")
    return None


def _object(call: Call, kind: str, id: str) -> Any:
    one = call.find(kind, id)
    if one is None:
        return id
    if one.get("deleted"):
        return {"id": id, "object": one["object"], "deleted": True}
    return visible(one)


def _unknown(path: str) -> ApiError:
    return ApiError(
        400,
        f"This property cannot be expanded ({path}). You may want to try expanding 'data.{path}'."
        if not path.startswith("data.")
        else f"This property cannot be expanded ({path}).",
    )
