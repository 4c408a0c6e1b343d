"""Checkout sessions: open until they are paid, expired by a call or by the clock. `paying.py` has what a buyer does."""

from typing import Any

from . import balances, checkout_lines, checkout_parameters, forms, lifecycle, prices
from .calls import Call, Route
from .checkout_objects import new_session
from .errors import Json, refused, unsupported
from .events import emit, visible
from .lists import PAGING, page, part
from .subscription_items import later_anchor, wanted_items


def create(call: Call, params: Json) -> Json:
    expires_at = checkout_parameters.check(call, params, params.get("subscription_data") or {})
    # From here on it executes: what is refused below is saved under the idempotency key.
    customer = balances.alive(call, params["customer"]) if params.get("customer") else None
    checkout_parameters.check_customer(params, customer)
    checkout_parameters.check_origin(call, params)
    return opened(call, params, customer, expires_at=expires_at)


def opened(call: Call, params: Json, customer: Json | None, *, expires_at: int) -> Json:
    """A session with these parameters, which are right as far as no state is concerned."""
    data = params.get("subscription_data") or {}
    wanted = wanted_items(call, params["line_items"], "line_items", recurring=False)
    currency = wanted[0]["price"]["currency"]
    if _recurring(params["mode"], wanted):
        if customer is not None:
            if any(customer["currency"] in prices.other_currencies(call, each["price"]["id"]) for each in wanted):
                raise unsupported("a price in another one of its currencies", "line_items")
            balances.check_currency(customer, currency)
        later_anchor(call, data, wanted[0]["price"], "subscription_data[billing_cycle_anchor]")
    found = checkout_lines.discounts_of(call, params.get("discounts") or [], currency)
    coupon = found[0]["coupon"] if found else None
    lines, due = checkout_lines.lines(call, wanted, coupon, data)
    one = new_session(call, params, customer, lines, due, coupon=coupon, expires_at=expires_at)
    return call.store.put("checkout_session", one)


def _recurring(mode: str, wanted: list[Json]) -> bool:
    """Whether the session makes a subscription; refuses what does not fit the mode."""
    kinds = {each["price"]["recurring"] is not None for each in wanted}
    if mode == "payment" and True in kinds:
        raise refused(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or"
            " use only one-time prices.",
            param="line_items",
        )
    if mode == "subscription" and True not in kinds:
        raise refused(
            "You must provide at least one recurring price in `subscription` mode when using prices.",
            param="line_items",
        )
    if len(kinds) > 1:
        raise unsupported("one-time prices next to recurring ones", "line_items")
    return mode == "subscription"


def expire(call: Call, params: Json) -> Json:
    old = call.named("checkout_session", params["id"], noun="checkout.session")
    if old["status"] != "open":
        raise refused(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of'
            f" `{old['status']}`."
        )
    return expired(call, old)


def expired(call: Call, old: Json) -> Json:
    one = call.store.change("checkout_session", old["id"], status="expired", url=None, _due=None)
    emit(call, "checkout.session.expired", one)
    begun = call.find("subscription", old["_subscription"])
    if begun is not None and begun["status"] == "incomplete":  # its buyer is just being asked to authenticate
        lifecycle.abandon(call, begun)
    return one


def completed(call: Call, old: Json, **fields: Any) -> Json:
    """The caller announces it, as it knows the order."""
    return call.store.change("checkout_session", old["id"], status="complete", url=None, _due=None, **fields)


def retrieve(call: Call, params: Json) -> Json:
    return call.named("checkout_session", params["id"], noun="checkout.session")


def update(call: Call, params: Json) -> Json:
    old = call.named("checkout_session", params["id"], noun="checkout.session")
    if "metadata" not in params:
        return old
    metadata = forms.merge_metadata(old["metadata"], params["metadata"])
    return call.store.change("checkout_session", old["id"], metadata=metadata)


def line_items(call: Call, params: Json) -> Json:
    one = call.named("checkout_session", params["id"], noun="checkout.session")
    return part([visible(line) for line in one["_lines"]], params, f"/v1/checkout/sessions/{one['id']}/line_items")


def list_sessions(call: Call, params: Json) -> Json:
    email = (params.get("customer_details") or {}).get("email")

    def keep(one: Json) -> bool:
        if email is not None and (one["customer_details"] or {}).get("email") != email:
            return False
        return all(
            params.get(name) is None or one[name] == params[name]
            for name in ("status", "subscription", "payment_intent")
        )

    return page(
        call,
        "checkout_session",
        params,
        "/v1/checkout/sessions",
        noun="checkout.session",
        customer=params.get("customer"),
        keep=keep,
    )


_SESSION = "/v1/checkout/sessions/{id}"

ROUTES: list[Route] = [
    ("POST", "/v1/checkout/sessions", checkout_parameters.PARAMETERS, create),
    (
        "GET",
        "/v1/checkout/sessions",
        {
            **PAGING,
            "created": forms.created,
            "customer": forms.text(),
            "customer_details": forms.table({"email": forms.text()}),
            "payment_intent": forms.text(),
            "status": forms.one_of("complete", "expired", "open"),
            "subscription": forms.text(),
        },
        list_sessions,
    ),
    ("GET", _SESSION, {}, retrieve),
    ("POST", _SESSION, {"metadata": forms.metadata}, update),
    ("POST", f"{_SESSION}/expire", {}, expire),
    ("GET", f"{_SESSION}/line_items", PAGING, line_items),
]
