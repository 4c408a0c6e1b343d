"""Who is calling: a buyer with a signed token, or the application's own server with a key.

Every failure is the same 401, whatever was wrong; the reason is only logged. A buyer acts for the token's
`sub` alone; a server names the user in the request (API-10 to API-15).
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import structlog
from flask import Request

from app.errors.problems import Forbidden, IdentityUnavailable
from app.identity.key_set import ALGORITHMS, KeySet
from billing.errors import InvalidRequest, Unauthorized
from billing.process.settings import Settings
from billing.rules.ids import is_user_id, storable

log = structlog.get_logger(__name__)

LEEWAY_SECONDS = 60  # clocks of the identity provider and ours
MAX_HEADER = 8 * 1024  # a token with many claims has 2 KiB
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


def is_bearer(header: str, secret: str) -> bool:
    """Whether an Authorization header holds this secret, compared in constant time."""
    scheme, _, token = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), secret.encode())


def _email(claims: Mapping[str, Any]) -> str | None:
    """The token's email, unless its issuer says that nobody verified it (API-79)."""
    email, verified = claims.get("email"), claims.get("email_verified", True)
    if verified is not True and verified != "true":  # some issuers write it as text
        return None
    return email if isinstance(email, str) and _EMAIL.fullmatch(email) and storable(email) else None


class Identity:
    """Checks the Authorization header against the settings."""

    def __init__(self, settings: Settings) -> None:
        self._api_keys = [key.get_secret_value().encode() for key in settings.auth_api_keys]
        self._secret = settings.auth_jwt_secret
        self._keys = KeySet(settings.auth_jwks_url) if settings.auth_jwks_url else None
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
        matches = [hmac.compare_digest(key, token) for key in self._api_keys]  # all: the time taken says nothing
        return any(matches)

    def _buyer(self, token: str) -> Caller:
        try:
            claims = self._claims(token)
        except IdentityUnavailable:
            raise
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
            signer = _signer(token, self._keys)
            # One algorithm: the key's own `alg`, or the usual one of its type. The token's header chooses nothing.
            key, algorithms = signer.key, [signer.algorithm_name]
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


def _signer(token: str, keys: KeySet) -> jwt.PyJWK:
    """The key that the token names. A token that no key of a set could have signed is not worth a fetch."""
    header = jwt.get_unverified_header(token)
    key_id = header.get("kid")
    if header.get("alg") not in ALGORITHMS or not isinstance(key_id, str):
        raise jwt.InvalidTokenError("not signed by a key of a set")
    key = keys.find(key_id)
    if key is None:
        raise jwt.InvalidTokenError("no such key")
    return key


def _refused(reason: str) -> Unauthorized:
    log.info("caller.refused", reason=reason)
    return Unauthorized("Send a valid token as `Authorization: Bearer …`.")
