"""Coupons: what they take off and how often, and whether one may still be used."""

from . import forms
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, page
from .resources import check_id, retrieve, update


def coupon_fields(call: Call, params: Json) -> Json:
    return {
        "id": params.get("id") or call.store.new_id("", 8),
        "object": "coupon",
        "amount_off": params.get("amount_off"),
        "created": call.now,
        "currency": (params.get("currency") or "").lower() or None,
        "duration": params.get("duration") or "once",
        "duration_in_months": params.get("duration_in_months"),
        "livemode": call.livemode,
        "max_redemptions": params.get("max_redemptions"),
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "name": params.get("name"),
        "percent_off": params.get("percent_off"),
        "redeem_by": params.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
    }


def create_coupon(call: Call, params: Json) -> Json:
    if (params.get("percent_off") is None) == (params.get("amount_off") is None):
        raise bad_parameter(
            "You must pass exactly one of percent_off or amount_off when creating a coupon.", "percent_off"
        )
    if params.get("amount_off") is not None and not params.get("currency"):
        raise bad_parameter("You must pass currency when passing amount_off", "currency")
    if params.get("percent_off") is not None and not 0 < params["percent_off"] <= 100:
        raise bad_parameter("Invalid percent_off: must be greater than 0 and at most 100.", "percent_off")
    if params.get("duration") == "repeating" and not params.get("duration_in_months"):
        raise bad_parameter("You must pass duration_in_months when duration is repeating", "duration_in_months")
    if params.get("duration_in_months") and params.get("duration") != "repeating":
        raise bad_parameter("You can only pass duration_in_months when duration is repeating", "duration_in_months")
    if params.get("redeem_by") is not None and params["redeem_by"] <= call.now:
        raise bad_parameter("`redeem_by` must be in the future.", "redeem_by")
    check_id(call, "coupon", params)
    one = call.store.put("coupon", coupon_fields(call, params))
    emit(call, "coupon.created", one)
    return one


def delete_coupon(call: Call, params: Json) -> Json:
    one = call.named("coupon", params["id"])
    call.store.remove("coupon", one["id"])
    emit(call, "coupon.deleted", one)
    return {"id": one["id"], "object": "coupon", "deleted": True}


def redeemable(call: Call, id: str, param: str, currency: str) -> Json:
    """The coupon, if it may still be used, and in this currency."""
    one = call.named("coupon", id, param=param)
    over = one["redeem_by"] is not None and call.now > one["redeem_by"]
    used_up = one["max_redemptions"] is not None and one["times_redeemed"] >= one["max_redemptions"]
    if over or used_up or not one["valid"]:
        raise refused(f"Coupon {id} is expired.", code="coupon_expired", param=param)
    if one["amount_off"] is not None and one["currency"] != currency:
        raise refused(
            f"The coupon {id} has an `amount_off` in {one['currency']}; it cannot be used with {currency}.",
            param=param,
        )
    return one


_COUPON_NAMES: forms.Table = {"name": forms.text(40), "metadata": forms.metadata}

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/coupons",
        {
            **_COUPON_NAMES,
            "amount_off": forms.integer(1),
            "currency": forms.text(3),
            "duration": forms.one_of("once", "repeating", "forever"),
            "duration_in_months": forms.integer(1),
            "id": forms.identifier,
            "max_redemptions": forms.integer(1),
            "percent_off": forms.number,
            "redeem_by": forms.integer(0),
        },
        create_coupon,
    ),
    (
        "GET",
        "/v1/coupons",
        {**PAGING, "created": forms.created},
        lambda call, params: page(call, "coupon", params, "/v1/coupons"),
    ),
    ("GET", "/v1/coupons/{id}", {}, retrieve("coupon")),
    ("POST", "/v1/coupons/{id}", _COUPON_NAMES, lambda call, params: update(call, "coupon", params)),
    ("DELETE", "/v1/coupons/{id}", {}, delete_coupon),
]
