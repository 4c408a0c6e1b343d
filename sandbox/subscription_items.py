"""The items of a subscription: which prices, how many, over which period, with which discounts and tax rates."""

from collections.abc import Iterable
from typing import Any

from . import discounts, forms, prices, subscription_objects, tax_rates
from .calls import Call
from .errors import Json, bad_parameter, missing_object, refused
from .events import visible
from .lists import whole
from .periods import next_end


def wanted_items(call: Call, sent: list[Json], name: str, *, recurring: bool = True) -> list[Json]:
    """[{price, quantity, metadata, discounts, tax_rates}] with the objects, each price for sale, in one currency.

    `quantity` is None for a metered price, and 1 where none was sent.
    """
    wanted: list[Json] = []
    for index, each in enumerate(sent):
        where = f"{name}[{index}]"
        if not each.get("price"):
            raise bad_parameter(f"Missing required param: {where}[price].", f"{where}[price]", code="parameter_missing")
        price = _price(call, each["price"], f"{where}[price]", recurring)
        check_currency(price, wanted[0]["price"]["currency"] if wanted else None, f"{where}[price]")
        wanted.append(
            {
                "price": price,
                "quantity": _quantity(price, each, where, required=name == "line_items"),
                "metadata": each.get("metadata"),
                "discounts": discounts.wanted(call, each.get("discounts"), f"{where}[discounts]", price["currency"]),
                "tax_rates": tax_rates.wanted(call, each.get("tax_rates"), f"{where}[tax_rates]"),
            }
        )
    if name != "line_items":
        _no_price_twice([each["price"]["id"] for each in wanted], name)
    return wanted


def _price(call: Call, id: str, param: str, recurring: bool) -> Json:
    price = call.named("price", id, param=param)
    if not price["active"]:
        raise refused(
            f"The price specified is inactive. This field only accepts active prices: {price['id']}", param=param
        )
    if recurring and price["recurring"] is None:
        raise refused(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
            param=param,
        )
    return visible(price)


def check_currency(price: Json, expected: str | None, param: str) -> None:
    """A subscription has one currency."""
    if expected is not None and price["currency"] != expected.lower():
        raise refused(
            f"The price specified only supports `{price['currency']}`. This doesn't match the expected currency:"
            f" `{expected.lower()}`.",
            param=param,
        )


def is_metered(price: Json) -> bool:
    return bool((price["recurring"] or {}).get("usage_type") == "metered")


def _quantity(price: Json, sent: Json, where: str, *, required: bool = False) -> int | None:
    quantity = sent.get("quantity")
    if not is_metered(price):
        if quantity is None and required:
            raise bad_parameter(
                f"Quantity is required. Add `quantity` to `{where}`", f"{where}[quantity]", code="parameter_missing"
            )
        return 1 if quantity is None else int(quantity)
    if quantity is not None:
        raise refused(
            f"Quantity should not be specified where usage_type is `metered`. Remove quantity from `{where}`",
            param=f"{where}[quantity]",
        )
    return None


def _no_price_twice(ids: list[str], name: str) -> None:
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise refused(f"Cannot add multiple subscription items with the same plan: {twice}", param=name)


def later_anchor(call: Call, params: Json, price: Json, param: str) -> int | None:
    """The moment from which whole periods are billed, at most one period ahead."""
    anchor = params.get("billing_cycle_anchor")
    if anchor is None:
        return None
    if anchor <= call.now:
        raise refused("The `billing_cycle_anchor` has to be in the future.", param=param)
    latest = next_end(call.now, call.now, price["recurring"])
    if anchor > latest:
        raise refused(
            f"`billing_cycle_anchor` cannot be later than next natural billing date ({latest}) for plan.", param=param
        )
    return int(anchor)


def changed_items(call: Call, old: Json, sent: list[Json]) -> tuple[Json, frozenset[str]]:
    """The items after the change, and those of them that begin a period now: their interval is another one."""
    data = {item["id"]: item for item in old["items"]["data"]}
    begun = set()
    for index, each in enumerate(sent):
        item = data.get(each.get("id", ""))
        if each.get("id") and item is None:
            raise missing_object("subscription item", each["id"], param=f"items[{index}][id]", status=400)
        if each.get("deleted"):
            data.pop(each.get("id", ""), None)
            continue
        after, begins = _changed(call, old, item, each, f"items[{index}]")
        data[after["id"]] = after
        if begins:
            begun.add(after["id"])
    if not data:
        raise refused("A subscription must have at least one active plan.", param="items")
    _no_price_twice([item["price"]["id"] for item in data.values()], "items")
    check_rhythms([item["price"] for item in data.values()], old["billing_mode"], "items")
    return whole(list(data.values()), old["items"]["url"]), frozenset(begun)


def _changed(call: Call, old: Json, item: Json | None, sent: Json, where: str) -> tuple[Json, bool]:
    """One item, new or changed, and whether it begins a period now."""
    price = _price(call, sent.get("price") or (item or {}).get("price", {}).get("id", ""), f"{where}[price]", True)
    check_currency(price, old["currency"], f"{where}[price]")
    found = {"discounts": discounts.wanted(call, sent.get("discounts"), f"{where}[discounts]", price["currency"]),
             "tax_rates": tax_rates.wanted(call, sent.get("tax_rates"), f"{where}[tax_rates]")}  # fmt: skip
    if item is None:
        wanted = {**sent, **found, "price": price, "quantity": _quantity(price, sent, where)}
        start, end, begins = _period_of_new(call, old, price)
        return subscription_objects.item(call, old["id"], old["customer"], wanted, start, end), begins
    fields: Json = {"price": price, "plan": prices.plan_of(price)}
    sent_quantity = {} if is_metered(item["price"]) else {"quantity": item["quantity"]}
    quantity = _quantity(price, {**({} if is_metered(price) else sent_quantity), **_given(sent, "quantity")}, where)
    kept = {name: value for name, value in item.items() if name != "quantity"}
    if quantity is not None:
        fields["quantity"] = quantity
    if "metadata" in sent:
        fields["metadata"] = forms.merge_metadata(item["metadata"], sent["metadata"])
    if "discounts" in sent:
        fields["discounts"] = discounts.made(call, found["discounts"], old["customer"], old["id"], item["id"])
    if "tax_rates" in sent:
        fields["tax_rates"] = found["tax_rates"]
    restarts = rhythm(price) != rhythm(item["price"]) and old["status"] != "trialing"
    if restarts:
        fields["current_period_start"] = call.now
        fields["current_period_end"] = next_end(call.now, call.now, price["recurring"])
    return {**kept, **fields}, restarts


def _given(sent: Json, name: str) -> Json:
    return {name: sent[name]} if sent.get(name) is not None else {}


def _period_of_new(call: Call, old: Json, price: Json) -> tuple[int, int, bool]:
    """A new item shares the period of those with its interval; one of another interval begins its own."""
    for item in old["items"]["data"]:
        if rhythm(item["price"]) == rhythm(price) or old["status"] == "trialing":
            return item["current_period_start"], item["current_period_end"], False
    return call.now, next_end(call.now, call.now, price["recurring"]), True


def check_rhythms(found: Iterable[Json], billing_mode: Json | None, param: str) -> None:
    """Several intervals are for flexible billing mode alone."""
    if (billing_mode or {}).get("type") == "classic" and len({rhythm(price) for price in found}) > 1:
        raise refused("Mixed interval subscriptions require billing_mode to be flexible.", param=param)


def rhythm(price: Json) -> tuple[Any, Any]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]
