"""Every address of the API in one table, built from the tables of the resources."""

import re

from . import (
    account,
    checkout_sessions,
    coupons,
    customers,
    disputes,
    events,
    invoices,
    payments,
    portal,
    prices,
    products,
    refunds,
    schedules,
    subscriptions,
    thin,
    webhooks,
)
from .calls import Handler, not_found
from .forms import Table

_RESOURCES = (
    account,
    checkout_sessions,
    coupons,
    customers,
    disputes,
    events,
    invoices,
    payments,
    portal,
    prices,
    products,
    refunds,
    schedules,
    subscriptions,
    thin,
    webhooks,
)

_FIXED: dict[tuple[str, str], tuple[Table, Handler]] = {}
_WITH_ID: list[tuple[str, re.Pattern[str], Table, Handler]] = []

ROUTES: list[tuple[str, str, Table]] = [(one[0], one[1], one[2]) for resource in _RESOURCES for one in resource.ROUTES]

for _resource in _RESOURCES:
    for _method, _path, _table, _handler in _resource.ROUTES:
        if "{id}" in _path:
            _WITH_ID.append((_method, re.compile(_path.replace("{id}", "([^/]+)")), _table, _handler))
        else:
            _FIXED[_method, _path] = (_table, _handler)


def find(method: str, path: str) -> tuple[Table, Handler, str | None]:
    """The parameters' table, the handler and the id in the path; 404 in Stripe's words."""
    if (fixed := _FIXED.get((method, path))) is not None:
        return *fixed, None
    for route_method, pattern, table, handler in _WITH_ID:
        if route_method == method and (match := pattern.fullmatch(path)) is not None:
            return table, handler, match[1]
    raise not_found(method, path)
