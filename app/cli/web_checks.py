"""What `onelane doctor` looks at for the web: its port, and the key set by which it knows buyers."""

import json
import urllib.request
from collections.abc import Iterator

from app.dev.ports import address_here, require_free
from app.identity.key_set import KeySet, download, read_keys
from billing.doctor.finding import Finding, fine
from billing.errors import ConfigurationError, TransientError
from billing.process.settings import Settings
from billing.rules.words import in_number

ANSWER_SECONDS = 3


def examine_identity(settings: Settings) -> Iterator[Finding]:
    """Whether the key set can be fetched, and has a key that a buyer's token may be signed with.

    Raises TransientError where nobody answers, ConfigurationError where it has no such key.
    """
    if settings.auth_jwks_url is None:
        return
    try:
        body = download(settings.auth_jwks_url, KeySet.FETCH_SECONDS)
    except (OSError, ValueError) as error:
        raise TransientError(
            f"AUTH_JWKS_URL does not answer with a key set ({type(error).__name__}): no buyer is recognized. Set the"
            " provider's jwks_uri, and let this machine reach it."
        ) from None
    try:
        keys = read_keys(body)
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(
            "AUTH_JWKS_URL has no key that may sign a token (RS, ES or EdDSA, with a `kid`). Set the address that the"
            " provider's /.well-known/openid-configuration names as jwks_uri."
        ) from None
    yield fine("identity", f"AUTH_JWKS_URL has {in_number(len(keys), 'key')} for tokens.")


def examine_port(settings: Settings) -> Iterator[Finding]:
    """Whether the web can listen, as it sees to at its start, or does so already. Raises ConfigurationError."""
    try:
        require_free(settings.bind, settings.port, setting="PORT")
    except ConfigurationError:
        if not _is_ours(settings):
            raise
        yield fine("web", f"A web answers on PORT {settings.port}.")
    else:
        yield fine("web", f"PORT {settings.port} is free: no web runs on this machine.")


def _is_ours(settings: Settings) -> bool:
    """Whether it is a web of ours that has the port."""
    address = address_here(settings.bind, settings.port)
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=ANSWER_SECONDS) as answer:  # noqa: S310  # our own, http
            return bool(json.loads(answer.read(1000)) == {"status": "alive"})
    except (OSError, ValueError):
        return False
