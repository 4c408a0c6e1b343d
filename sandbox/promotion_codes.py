"""Promotion codes: words that buyers may type for a coupon. They are kept and listed; no page takes one here."""

from . import balances, forms
from .calls import Call, Route
from .errors import Json, bad_parameter, missing_parameter, refused
from .events import emit
from .lists import PAGING, page
from .resources import retrieve, same, update


def create(call: Call, params: Json) -> Json:
    promotion = params.get("promotion") or {}
    for name in ("type", "coupon"):
        if not promotion.get(name):
            raise missing_parameter(f"promotion[{name}]")
    coupon = call.named("coupon", promotion["coupon"], param="promotion[coupon]")
    ends = params.get("expires_at")
    if ends is not None and ends <= call.now:
        raise bad_parameter("`expires_at` must be in the future.", "expires_at")
    most = params.get("max_redemptions")
    if most is not None and coupon["max_redemptions"] is not None and most > coupon["max_redemptions"]:
        raise bad_parameter("`max_redemptions` cannot be greater than the coupon's.", "max_redemptions")
    code = params.get("code") or call.store.new_id("", 8).upper()
    active = params.get("active") is not False
    if active and any(one["active"] and one["code"].lower() == code.lower() for one in _of_mode(call)):
        raise refused(f"An active promotion code with `code: {code}` already exists.", param="code")
    one = {
        "id": call.store.new_id("promo_1"),
        "object": "promotion_code",
        "active": active,
        "code": code,
        "created": call.now,
        "customer": balances.alive(call, params["customer"])["id"] if params.get("customer") else None,
        "customer_account": None,
        "expires_at": ends,
        "livemode": call.livemode,
        "max_redemptions": most,
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "promotion": promotion,
        "restrictions": {"first_time_transaction": False, "minimum_amount": None, "minimum_amount_currency": None},
        "times_redeemed": 0,
    }
    emit(call, "promotion_code.created", call.store.put("promotion_code", one))
    return one


def _of_mode(call: Call) -> list[Json]:
    return [one for one in call.store.all("promotion_code") if one["livemode"] == call.livemode]


def _list(call: Call, params: Json) -> Json:
    coupon, customer = params.get("coupon"), params.get("customer")

    def keep(one: Json) -> bool:
        if coupon is not None and one["promotion"]["coupon"] != coupon:
            return False
        return same(one, params, "active", "code") and customer in (None, one["customer"])

    return page(call, "promotion_code", params, "/v1/promotion_codes", keep=keep)


_CHANGES: forms.Table = {"active": forms.boolean, "metadata": forms.metadata}

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/promotion_codes",
        {
            **_CHANGES,
            "code": forms.text(500, pattern="[A-Za-z0-9-]+"),
            "customer": forms.identifier,
            "expires_at": forms.moment,
            "max_redemptions": forms.integer(1),
            "promotion": forms.table({"coupon": forms.identifier, "type": forms.one_of("coupon")}),
        },
        create,
    ),
    (
        "GET",
        "/v1/promotion_codes",
        {
            **PAGING,
            "active": forms.boolean,
            "code": forms.text(),
            "coupon": forms.text(),
            "created": forms.created,
            "customer": forms.text(),
        },
        _list,
    ),
    ("GET", "/v1/promotion_codes/{id}", {}, retrieve("promotion_code")),
    ("POST", "/v1/promotion_codes/{id}", _CHANGES, lambda call, params: update(call, "promotion_code", params)),
]
