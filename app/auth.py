"""Who is calling: a buyer with a signed token, or the application's own server with a key.

Every failure is the same 401, whatever was wrong; the reason is only logged. A buyer acts for the token's
`sub` alone; a server names the user in the request (API-10 to API-15).
"""

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import structlog
from flask import Request
from jwt import PyJWK, PyJWKClient
from jwt.exceptions import PyJWKClientConnectionError

from app.bodies import storable
from app.errors import Forbidden, IdentityUnavailable
from billing.errors import InvalidRequest, Unauthorized
from billing.process.settings import Settings

log = structlog.get_logger(__name__)

LEEWAY_SECONDS = 60  # clocks of the identity provider and ours
MAX_HEADER = 8 * 1024  # a token with many claims has 2 KiB
MAX_USER_ID = 200
# What a key of the JWKS may sign with. HS is missing on purpose: a public key is no shared secret.
JWKS_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"})
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,180}\.[^@\s.\x00-\x1f]{2,63}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request. `user_id` is None for a server, which names the user each time."""

    user_id: str | None
    email: str | None = None

    @property
    def is_server(self) -> bool:
        """Whether the application's own server calls."""
        return self.user_id is None

    def named_in_query(self, request: Request) -> str:
        """The user whose things a GET is about. Raises InvalidRequest."""
        named = request.args.getlist("user_id")
        if self.user_id is not None:
            if named:
                raise InvalidRequest("A buyer's token names the user; leave user_id out.", ("/user_id", "Not known."))
            return self.user_id
        if len(named) != 1 or not is_user_id(named[0]):
            raise InvalidRequest("With a server key, name the user as ?user_id=….", ("/user_id", "Name one user."))
        return named[0]

    def require_server(self) -> None:
        """Raise Forbidden unless a server calls."""
        if not self.is_server:
            raise Forbidden("Only a server key may do this; a buyer's token may not.")


def is_user_id(value: object) -> bool:
    """Whether this can be a user's id: 1 to 200 printable characters (API-12)."""
    # U+FFFD stands for bytes that were no UTF-8: two different ids would become one.
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_USER_ID
        and value.isprintable()
        and storable(value)
        and "\ufffd" not in value
    )


def _email(claims: Mapping[str, Any]) -> str | None:
    """The token's email, unless its issuer says that nobody verified it (API-79)."""
    email, verified = claims.get("email"), claims.get("email_verified", True)
    if verified is not True and verified != "true":  # some issuers write it as text
        return None
    return email if isinstance(email, str) and _EMAIL.fullmatch(email) else None


class Identity:
    """Checks the Authorization header against the settings."""

    def __init__(self, settings: Settings) -> None:
        self._api_keys = [key.get_secret_value().encode() for key in settings.auth_api_keys]
        self._secret = settings.auth_jwt_secret
        self._keys = _Keys(settings.auth_jwks_url) if settings.auth_jwks_url else None
        self._issuer = settings.auth_issuer
        self._audience = settings.auth_audience

    def of(self, request: Request) -> Caller:
        """Say who is calling. Raises Unauthorized, or IdentityUnavailable when no key can be had."""
        header = request.headers.get("Authorization", "")
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(header) > MAX_HEADER or not token.isascii():
            raise _refused("no_bearer_token")
        if self._is_api_key(token.encode()):
            return Caller(user_id=None)
        return self._buyer(token)

    def is_server_key(self, header: str) -> bool:
        """Whether this Authorization header holds one of the server keys."""
        return self._is_api_key(header.partition(" ")[2].strip().encode())

    def _is_api_key(self, token: bytes) -> bool:
        found = False
        for key in self._api_keys:  # all of them, always: the time taken says nothing
            found |= hmac.compare_digest(key, token)
        return found

    def _buyer(self, token: str) -> Caller:
        try:
            claims = self._claims(token)
        except PyJWKClientConnectionError as error:
            log.warning("identity.unavailable")
            raise IdentityUnavailable("The keys that sign tokens cannot be fetched. Try again.") from error
        except Exception as error:  # noqa: BLE001  a forged token may break the library in ways nobody listed
            raise _refused(type(error).__name__) from None
        if not is_user_id(claims["sub"]):
            raise _refused("sub_unfit")
        return Caller(claims["sub"], _email(claims))

    def _claims(self, token: str) -> dict[str, Any]:
        key: Any
        if self._secret:
            key, algorithms = self._secret.get_secret_value(), ["HS256"]
        elif self._keys:
            signer = self._keys.get_signing_key_from_jwt(token)
            # One algorithm: the key's own `alg`, or the usual one of its type. The token's header chooses nothing.
            key, algorithms = signer.key, sorted({signer.algorithm_name} & JWKS_ALGORITHMS)
        else:
            raise jwt.InvalidTokenError("no way to check tokens is configured")
        return jwt.decode(
            token,
            key,
            algorithms=algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_SECONDS,
            options={
                "require": ["exp", "sub"],
                "verify_aud": self._audience is not None,
                "verify_iss": self._issuer is not None,
            },
        )


class _Keys(PyJWKClient):
    """PyJWT's client, cached, which fails at once for a while after a fetch failed.

    Otherwise every request would hold a thread for the timeout while the identity provider is down.
    """

    TIMEOUT_SECONDS = 3
    LIFESPAN_SECONDS = 900
    PAUSE_SECONDS = 5.0
    # A key that was published a moment ago waits so long at most; strangers' made-up kids cost the provider no more.
    COOLDOWN_SECONDS = 10.0

    def __init__(self, url: str) -> None:
        super().__init__(
            url,
            timeout=self.TIMEOUT_SECONDS,
            lifespan=self.LIFESPAN_SECONDS,
            cooldown_duration=self.COOLDOWN_SECONDS,
        )
        self._paused_until = 0.0

    def get_signing_key(self, kid: str) -> PyJWK:
        """The key of that name. One that is known is given without a wait for a fetch that another's kid set off."""
        cached = self.jwk_set_cache.get() if self.jwk_set_cache else None
        signing = [key for key in cached.keys if key.key_id and key.public_key_use in (None, "sig")] if cached else []
        known = self.match_kid(signing, kid)
        return known or super().get_signing_key(kid)

    def fetch_data(self) -> Any:
        """Fetch the key set, unless that failed a moment ago."""
        if time.monotonic() < self._paused_until:
            raise PyJWKClientConnectionError("failed a moment ago")
        try:
            return super().fetch_data()
        except (PyJWKClientConnectionError, ValueError, OSError) as error:
            self._paused_until = time.monotonic() + self.PAUSE_SECONDS
            raise PyJWKClientConnectionError(type(error).__name__) from error


def _refused(reason: str) -> Unauthorized:
    log.info("caller.refused", reason=reason)
    return Unauthorized("Send a valid token as `Authorization: Bearer …`.")
