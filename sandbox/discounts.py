"""Discounts: a coupon on a subscription or on one of its items, as long as its duration says."""

from . import coupons, forms
from .amounts import Off
from .calls import Call
from .errors import Json, bad_parameter, missing_object
from .periods import next_end

PARAMETER = forms.items(forms.table({"coupon": forms.identifier, "discount": forms.identifier}), 20)


def wanted(call: Call, sent: list[Json] | None, param: str, currency: str) -> list[Json]:
    """[{coupon}] or [{discount}] with the objects in place of their ids."""
    found: list[Json] = []
    for index, each in enumerate(sent or []):
        where = f"{param}[{index}]"
        if each.get("coupon") and each.get("discount"):
            raise bad_parameter("You may only specify one of these parameters: coupon, discount.", where)
        if each.get("coupon"):
            found.append({"coupon": coupons.redeemable(call, each["coupon"], f"{where}[coupon]", currency)})
        elif each.get("discount"):
            one = call.find("discount", each["discount"])
            if one is None:
                raise missing_object("discount", each["discount"], param=f"{where}[discount]", status=400)
            found.append({"discount": one})
    return found


def made(call: Call, found: list[Json], customer: str, subscription: str, item: str | None = None) -> list[str]:
    """The ids of the discounts: an existing one stays the same, a coupon is redeemed."""
    return [
        each["discount"]["id"] if "discount" in each else new(call, each["coupon"], customer, subscription, item)["id"]
        for each in found
    ]


def new(call: Call, coupon: Json, customer: str, subscription: str, item: str | None = None) -> Json:
    end = None
    if coupon["duration"] == "repeating":
        recurring = {"interval": "month", "interval_count": coupon["duration_in_months"]}
        end = next_end(call.now, call.now, recurring)
    now = call.store.get("coupon", coupon["id"]) or coupon
    call.store.change("coupon", coupon["id"], times_redeemed=now["times_redeemed"] + 1)
    return call.store.put(
        "discount",
        {
            "id": call.store.new_id("di_1"),
            "object": "discount",
            "checkout_session": None,
            "customer": customer,
            "customer_account": None,
            "end": end,
            "invoice": None,
            "invoice_item": None,
            "promotion_code": None,
            "source": {"coupon": coupon["id"], "type": "coupon"},
            "start": call.now,
            "subscription": subscription,
            "subscription_item": item,
            "_coupon": coupon,  # a deleted coupon goes on where it was redeemed
        },
    )


def offs(call: Call, ids: list[str]) -> tuple[Off, ...]:
    """What is taken off now. A discount whose months are over takes nothing."""
    found = [one for id in ids if (one := call.store.get("discount", id)) is not None]
    return tuple(Off(one["id"], coupon_of(call, one)) for one in found if one["end"] is None or one["end"] > call.now)


def left(call: Call, ids: list[str], *, billed: bool) -> list[str]:
    """The discounts that stay after an invoice: what applied once is spent by it."""
    return [one.id for one in offs(call, ids) if not (billed and one.coupon["duration"] == "once")]


def coupon_of(call: Call, discount: Json) -> Json:
    return dict(discount.get("_coupon") or call.store.get("coupon", discount["source"]["coupon"]) or {})
