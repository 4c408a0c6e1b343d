"""Addresses: how often one client address may ask, whichever tokens it shows.

Counted before the credential is looked at, so that guessing at tokens is slowed down too. The application's own
servers speak for many users and are not counted; Stripe's deliveries and the public plans are not either (API-39).
"""

from ipaddress import IPv6Address, ip_address, ip_network

from flask import Flask, request

from app.auth import Identity
from app.limits import RateLimit

# One subscriber's line has a whole /64; counted by the address, a client would have 2**64 allowances.
IPV6_PREFIX = 64


def limit_addresses(app: Flask, *, identity: Identity, rate: RateLimit) -> None:
    """Count each buyer's request by where it came from. X-Forwarded-For counts as far as TRUSTED_PROXIES says."""

    @app.before_request
    def count() -> None:
        rule = request.url_rule.rule if request.url_rule else ""
        if not rule.startswith("/v1/") or rule == "/v1/plans" or request.method == "OPTIONS":
            return
        if not identity.is_server_key(request.headers.get("Authorization", "")):
            rate.take(counted_as(request.remote_addr or ""))


def counted_as(address: str) -> str:
    """The name under which a client address is counted: IPv4 whole, IPv6 by its /64."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"  # a socket without an address, or nonsense from a proxy: they share one allowance
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_PREFIX), strict=False))
