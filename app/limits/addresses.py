"""The rate of client addresses, and the name under which an address is counted."""

import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import structlog
from flask import Flask, request

from app.identity.callers import Identity
from app.limits.users import Limits

log = structlog.get_logger(__name__)

# One subscriber's line has a whole /64; counted by the address, a client would have 2**64 allowances.
IPV6_PREFIX = 64
NAT64 = ip_network("64:ff9b::/96")  # RFC 6052
_BRACKETED = re.compile(r"\[([^\]]*)\](?::[0-9]+)?")
ADDRESS_UNKNOWN = (
    "A request came without its client's address, and no rate of addresses is counted for such. "
    "Set TRUSTED_PROXIES to the number of proxies that write X-Forwarded-For."
)


def limit_addresses(app: Flask, *, identity: Identity, limits: Limits, uncounted: str) -> None:
    """Count each request by where it came from. X-Forwarded-For counts as far as TRUSTED_PROXIES says.

    The application's own servers speak for many users and are not counted, nor are deliveries (`uncounted`). What needs
    no credential has an allowance of its own, so that no buyer's requests make a probe fail. It is counted in
    this process alone: neither Redis nor the ledger has to do with it (API-92).
    """

    @cache
    def tell_operator() -> None:
        log.warning("rate_limit.address_unknown", sentence=ADDRESS_UNKNOWN)

    @app.before_request
    def count() -> None:
        rule = request.url_rule.rule if request.url_rule else ""
        if rule == uncounted:
            return
        needs_credential = rule.startswith("/v1/") and rule != "/v1/plans" and request.method != "OPTIONS"
        if needs_credential and identity.is_server_key(request.headers.get("Authorization", "")):
            return
        if name := counted_as(seen_address()):
            (limits.addresses if needs_credential else limits.strangers).take(name)
        else:
            tell_operator()  # once


def seen_address() -> str:
    """The client's address; nothing where the proxies that are believed did not name it."""
    original = request.environ.get("werkzeug.proxy_fix.orig")  # what ProxyFix documents that it leaves there
    if original and original["REMOTE_ADDR"] == request.remote_addr:
        return ""
    return request.remote_addr or ""


def counted_as(address: str) -> str:
    """The name under which a client address is counted: IPv4 whole, IPv6 by its /64.

    Proxies write it with a port or in brackets, too. Nothing where it is no address: one name for all of those would
    be one allowance for all buyers.
    """
    text = address.strip().strip('"').partition("%")[0]
    if bracketed := _BRACKETED.fullmatch(text):
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    if parsed in NAT64:
        return str(IPv4Address(int(parsed) & 0xFFFFFFFF))  # a whole network of IPv4 is one /64 there
    return str(ip_network((parsed, IPV6_PREFIX), strict=False))
