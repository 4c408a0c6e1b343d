"""Every address of the API in one table, built from the tables of the resources."""

import re
from dataclasses import replace

from . import (
    account,
    balances,
    checkout_sessions,
    coupons,
    customers,
    disputes,
    events,
    invoice_calls,
    invoice_items,
    known,
    payment_intents,
    payment_links,
    payment_methods,
    payments,
    portal,
    portal_configurations,
    prices,
    products,
    promotion_codes,
    refunds,
    schedules,
    setup_intents,
    subscription_changes,
    subscriptions,
    tax_rates,
    test_clocks,
    thin,
    webhooks,
)
from .calls import Found, not_found
from .errors import unsupported
from .forms import Table

_RESOURCES = (
    account,
    balances,
    checkout_sessions,
    coupons,
    customers,
    disputes,
    events,
    invoice_calls,
    invoice_items,
    payment_intents,
    payment_links,
    payment_methods,
    payments,
    portal,
    portal_configurations,
    prices,
    products,
    promotion_codes,
    refunds,
    schedules,
    setup_intents,
    subscription_changes,
    subscriptions,
    tax_rates,
    test_clocks,
    thin,
    webhooks,
)

ROUTES: list[tuple[str, str, Table]] = [(one[0], one[1], one[2]) for resource in _RESOURCES for one in resource.ROUTES]


_FIXED: dict[tuple[str, str], Found] = {}
_WITH_ID: list[tuple[str, re.Pattern[str], Found]] = []

for _resource in _RESOURCES:
    for _method, _path, _table, _handler in _resource.ROUTES:
        _found = Found(f"{_method} {re.sub('{[a-z]+}', '{id}', _path)}", _table, _handler)
        if "{" in _path:
            _WITH_ID.append((_method, re.compile(re.sub("{([a-z]+)}", "(?P<\\1>[^/]+)", _path)), _found))
        else:
            _FIXED[_method, _path] = _found


def find(method: str, path: str) -> Found:
    """The route of a request. An address of Stripe's that is not served is a 501, any other a 404 in Stripe's words."""
    if (fixed := _FIXED.get((method, path))) is not None:
        return fixed
    if known.is_word(method, path):  # `/v1/subscriptions/search` is no subscription
        raise unsupported(f"{method} {path}")
    for route_method, pattern, found in _WITH_ID:
        if route_method == method and (match := pattern.fullmatch(path)) is not None:
            return replace(found, ids=match.groupdict())
    raise unsupported(f"{method} {path}") if known.is_address(method, path) else not_found(method, path)
