"""Stripe's lists: newest first, 10 unless told (1 to 100), paged by id with `starting_after` or `ending_before`."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from . import forms
from .calls import Call
from .errors import ApiError, Json, missing_object

PAGING: forms.Table = {
    "limit": forms.integer(1, 100),
    "starting_after": forms.identifier,
    "ending_before": forms.identifier,
}


def page(
    call: Call,
    kind: str,
    params: Json,
    url: str,
    *,
    noun: str | None = None,
    customer: str | None = None,
    keep: Callable[[Json], Any] = lambda one: True,
) -> Json:
    """One page. A cursor must exist, whether or not the filters would keep it."""
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise ApiError(400, "You may only specify one of these parameters: starting_after, ending_before.")
    for param, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and call.find(kind, cursor) is None:
            raise missing_object(noun or kind, cursor, param=param, status=400)
    if customer is not None and call.find("customer", customer) is None:
        raise missing_object("customer", customer, param="customer", status=400)
    limit = params.get("limit") or 10
    span = params.get("created")
    found = (
        one
        for one in call.store.newest_first(kind, customer=customer, after=after, before=before)
        if one.get("livemode", call.livemode) == call.livemode
        and not one.get("deleted")
        and (not call.blind_seconds or call.time - one.get("created", 0) >= call.blind_seconds)
        and (span is None or within(one["created" if "created" in one else "date"], span))
        and keep(one)
    )
    taken = list(islice(found, limit + 1))
    data = taken[:limit]
    if before:
        data.reverse()
    return {"object": "list", "url": url, "has_more": len(taken) > limit, "data": data}


def part(data: list[Json], params: Json, url: str, *, noun: str = "line item") -> Json:
    """One page of a list inside an object, from its first element on."""
    ids = [one["id"] for one in data]
    after, before = params.get("starting_after"), params.get("ending_before")
    for param, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and cursor not in ids:
            raise missing_object(noun, cursor, param=param, status=400)
    limit = params.get("limit") or 10
    if before:
        rest = data[: ids.index(before)]
        return {"object": "list", "url": url, "has_more": len(rest) > limit, "data": rest[-limit:]}
    rest = data[ids.index(after) + 1 :] if after else data
    return {"object": "list", "url": url, "has_more": len(rest) > limit, "data": rest[:limit]}


def same(found: object, wanted: object) -> bool:
    """Whether a filter that may not have been given lets this through."""
    return wanted is None or found == wanted


def within(moment: int, span: Any) -> bool:
    if isinstance(span, int):
        return moment == span
    return not (
        ("gt" in span and not moment > span["gt"])
        or ("gte" in span and not moment >= span["gte"])
        or ("lt" in span and not moment < span["lt"])
        or ("lte" in span and not moment <= span["lte"])
    )


def whole(data: list[Json], url: str) -> Json:
    """A list inside an object, all of it."""
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}
