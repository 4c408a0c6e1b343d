"""The items of a subscription: which prices, how many, over which period."""

from . import prices, subscription_objects
from .calls import Call
from .errors import Json, bad_parameter, missing_object, refused
from .lists import whole
from .periods import next_end


def wanted_items(call: Call, sent: list[Json], name: str) -> list[Json]:
    """[{price, quantity}] with the price objects, each of them recurring and for sale."""
    wanted: list[Json] = []
    for index, each in enumerate(sent):
        param = f"{name}[{index}][price]"
        if not each.get("price"):
            raise bad_parameter(f"Missing required param: {param}.", param, code="parameter_missing")
        price = call.named("price", each["price"], param=param)
        if not price["active"]:
            raise refused(
                f"The price specified is inactive. This field only accepts active prices: {price['id']}", param=param
            )
        quantity = each.get("quantity")
        wanted.append({"price": price, "quantity": 1 if quantity is None else quantity})
    if name == "items" and any(each["price"]["recurring"] is None for each in wanted):
        raise refused("The price specified is set to `type=one_time` but this field only accepts prices with"
                      " `type=recurring`.", param="items[0][price]")  # fmt: skip
    return wanted


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


def changed_items(call: Call, old: Json, sent: list[Json]) -> tuple[Json, bool]:
    """The items after the change, and whether another interval starts a new period."""
    data = {item["id"]: item for item in old["items"]["data"]}
    first = old["items"]["data"][0]
    restarted = False
    for index, each in enumerate(sent):
        item = data.get(each.get("id", ""))
        if each.get("id") and item is None:
            raise missing_object("subscription item", each["id"], param=f"items[{index}][id]", status=400)
        if each.get("deleted"):
            data.pop(each.get("id", ""), None)
            continue
        sent_one = {"price": each.get("price") or (item or {}).get("price", {}).get("id")}
        price = wanted_items(call, [sent_one], "items")[0]["price"]
        start, end = first["current_period_start"], first["current_period_end"]
        if _rhythm(price) != _rhythm(first["price"]) and old["status"] != "trialing":
            start, end, restarted = call.now, next_end(call.now, call.now, price["recurring"]), True
        quantity = each.get("quantity")
        if item is None:
            item = subscription_objects.item(call, old["id"], price, 1 if quantity is None else quantity, start, end)
        data[item["id"]] = {
            **item,
            "price": price,
            "plan": prices.plan_of(price),
            "quantity": item["quantity"] if quantity is None else quantity,
            "current_period_start": start,
            "current_period_end": end,
        }
    if not data:
        raise refused("A subscription must have at least one active plan.", param="items")
    return whole(list(data.values()), old["items"]["url"]), restarted


def _rhythm(price: Json) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]
