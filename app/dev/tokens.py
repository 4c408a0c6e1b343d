"""Buyers' tokens, signed as an application's login signs them: for the demo shop and `onelane token`.

The web only checks tokens. Whoever holds AUTH_JWT_SECRET can sign one for every user.
"""

from datetime import datetime, timedelta

import jwt

from billing.errors import ConfigurationError
from billing.process.settings import Settings

LIFETIME = timedelta(hours=1)


def sign_token(user_id: str, *, settings: Settings, now: datetime, email: str | None = None) -> str:
    """A token that acts for this user for an hour. Raises ConfigurationError without AUTH_JWT_SECRET."""
    if settings.auth_jwt_secret is None:
        elsewhere = " AUTH_JWKS_URL is: ask that identity provider for a token." if settings.auth_jwks_url else ""
        raise ConfigurationError(f"A token is signed with AUTH_JWT_SECRET, which is not set.{elsewhere}")
    optional = {"email": email, "iss": settings.auth_issuer, "aud": settings.auth_audience}
    claims = {"sub": user_id, "iat": now, "exp": now + LIFETIME}
    claims |= {name: value for name, value in optional.items() if value}
    return jwt.encode(claims, settings.auth_jwt_secret.get_secret_value(), algorithm="HS256")
