"""The webhook endpoint at Stripe: whether events reach us, all that we follow, in our version.

The ledger keeps no address of ours, so the endpoint is known by its path.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from billing.doctor.finding import Finding, fine, warning, wrong
from billing.rules.words import in_number
from billing.stripe_gateway import API_VERSION, GatewayClient
from billing.webhooks.endpoint import PATH
from billing.webhooks.event_types import FOLLOWED

Json = dict[str, Any]

SHOWN = 3


def examine_endpoint(stripe: GatewayClient, *, livemode: bool) -> Iterator[Finding]:
    """What is wrong with the endpoints of this account whose path is ours. Raises what the gateway raises."""
    ours = [one for one in stripe.list_webhook_endpoints() if urlsplit(str(one.get("url"))).path == PATH]
    if not ours:
        sentence = f"Stripe has no webhook endpoint whose address ends with {PATH}: no event arrives."
        fix = f"Run `onelane webhooks setup --url https://YOUR_HOST{PATH}`"
        if livemode:
            yield wrong("endpoint", f"{sentence} {fix}.")
        else:
            yield warning("endpoint", f"{sentence} {fix}, or `stripe listen --forward-to …{PATH}` while you develop.")
    for one in ours:
        yield from _endpoint(one)
    enabled = [str(one["id"]) for one in ours if one.get("status") == "enabled"]
    if len(enabled) > 1:
        send = in_number(len(enabled), "endpoint sends", "endpoints send")
        yield warning(
            "endpoint",
            f"{send} to {PATH} ({', '.join(enabled)}): each event arrives so often. Remove all"
            " but the one whose secret is in STRIPE_WEBHOOK_SECRETS, unless they are of several installations.",
        )


def _endpoint(one: Json) -> Iterator[Finding]:
    url, version = str(one["url"]), one.get("api_version")
    fix = f"Run `onelane webhooks setup --url {url}`"
    types = set(one.get("enabled_events") or ())
    missing = [] if "*" in types else sorted(set(FOLLOWED) - types)
    if one.get("status") != "enabled":
        yield wrong("endpoint", f"Stripe's endpoint for {url} is disabled: no event arrives. {fix}.")
    if missing:
        named = f"{', '.join(missing[:SHOWN])}{' and more' if missing[SHOWN:] else ''}"
        yield wrong("endpoint", f"Stripe's endpoint for {url} lacks {in_number(len(missing), 'type')}: {named}. {fix}.")
    if version != API_VERSION:
        theirs = version or "the account's default version"
        yield warning("endpoint", f"Stripe's endpoint for {url} sends {theirs}, not {API_VERSION}. {fix} --replace.")
    if one.get("status") == "enabled" and not missing and version == API_VERSION:
        yield fine("endpoint", f"Stripe sends what is followed to {url}.")
