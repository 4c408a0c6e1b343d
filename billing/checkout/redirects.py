"""Redirect addresses: parsed once, compared by origin, refused when anything about them is odd.

What a browser makes of an odd address differs from what a parser makes of it (backslashes, userinfo,
look-alike hosts): so only plain ASCII addresses with an allowed scheme, host and port pass (CHK-9).
"""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

LONGEST = 2000  # what every browser and proxy takes
# Printable ASCII without space, double quotes, backslash and angle brackets; { } stay for {CHECKOUT_SESSION_ID}.
_PLAIN = re.compile(r"https?://[!#-;=?-\[\]_a-z{}~]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def refusal(address: str, *, origins: Collection[str]) -> str | None:
    """Why this address is not allowed, in words; None when it is."""
    if len(address) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if not _PLAIN.fullmatch(address):
        return "must be a plain absolute http(s) address"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "is no valid address"
    if "@" in parts.netloc or not parts.hostname:
        return "must name a host and no user"
    default = port is None or port == _DEFAULT_PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname  # IPv6
    origin = f"{parts.scheme}://{host}" + ("" if default else f":{port}")
    if origin not in origins:
        return "has an origin that is not in REDIRECT_ORIGINS"
    return None
