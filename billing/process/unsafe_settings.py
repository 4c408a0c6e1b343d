"""Settings that make sense and let somebody in: each is refused at the start, and named by `onelane doctor` (OPS-110).

A short secret is guessed, a key set over http is replaced on its way, and a token without an audience or an issuer may
have been signed for anybody's application.
"""

import os
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

SHOP = "ONELANE_SHOP"  # the page that signs its own tokens; set by `onelane dev`
LIVE = ("sk_live_", "rk_live_")
# 24 characters of a random key are 96 bits or more, written in hexadecimal. Stripe's own secrets have 32 and more.
LEAST_SERVER_KEY, LEAST_WEBHOOK_SECRET, LEAST_PASSWORD = 24, 16, 16
# 32 random characters have more than four different ones, whatever alphabet they are written in.
LEAST_DIFFERENT = 5


class Given(Protocol):
    """The settings that are looked at."""

    stripe_api_key: SecretStr | None
    stripe_api_base: str | None
    stripe_livemode: bool | None
    stripe_webhook_secrets: tuple[SecretStr, ...]
    auth_jwt_secret: SecretStr | None
    auth_jwks_url: str | None
    auth_issuer: str | None
    auth_audience: str | None
    auth_api_keys: tuple[SecretStr, ...]
    metrics_token: SecretStr | None
    console_password: SecretStr | None
    console_viewer_password: SecretStr | None
    console_user_header: str | None
    trusted_proxies: int


def unsafe_settings(settings: Given) -> list[str]:
    """What would open the door, one sentence each that names the setting and the fix."""
    return [*_secrets(settings), *_console(settings), *_key_set(settings), *_live(settings)]


def is_live(settings: Given) -> bool:
    """Whether these settings are about real money."""
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    return key.startswith(LIVE) or settings.stripe_livemode is True


def shop_is_on() -> bool:
    """Whether this process is to serve the shop page."""
    return os.environ.get(SHOP) == "1"


def is_loopback(host: str) -> bool:
    """Whether a host's name is this machine's own, so that nobody else can answer for it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _secrets(settings: Given) -> Iterator[str]:
    limits = {
        "AUTH_API_KEYS": (settings.auth_api_keys, LEAST_SERVER_KEY),
        "CONSOLE_PASSWORD": ((settings.console_password,) if settings.console_password else (), LEAST_PASSWORD),
        "CONSOLE_VIEWER_PASSWORD": (
            (settings.console_viewer_password,) if settings.console_viewer_password else (),
            LEAST_PASSWORD,
        ),
        "METRICS_TOKEN": ((settings.metrics_token,) if settings.metrics_token else (), LEAST_SERVER_KEY),
        "STRIPE_WEBHOOK_SECRETS": (settings.stripe_webhook_secrets, LEAST_WEBHOOK_SECRET),
    }
    for name, (secrets, least) in limits.items():
        if any(len(secret.get_secret_value()) < least for secret in secrets):
            yield f"{name} has one of fewer than {least} characters, which can be guessed. Set {name} to random text."
    secret = settings.auth_jwt_secret
    if secret and len(set(secret.get_secret_value())) < LEAST_DIFFERENT:
        yield "AUTH_JWT_SECRET repeats a few characters, which can be guessed. Set AUTH_JWT_SECRET to a random text."


def _console(settings: Given) -> Iterator[str]:
    if settings.console_user_header and not settings.trusted_proxies:
        yield (
            "CONSOLE_USER_HEADER is believed from anybody while TRUSTED_PROXIES is 0. Set TRUSTED_PROXIES to the number"
            " of proxies in front, or leave CONSOLE_USER_HEADER out."
        )
    if settings.console_password and settings.console_password == settings.console_viewer_password:
        yield (
            "CONSOLE_VIEWER_PASSWORD is the same as CONSOLE_PASSWORD, so viewers may change things."
            " Set CONSOLE_VIEWER_PASSWORD to another one."
        )


def _key_set(settings: Given) -> Iterator[str]:
    if settings.auth_jwks_url is None:
        return
    address = urlsplit(settings.auth_jwks_url)
    if address.scheme == "http" and not is_loopback(address.hostname or ""):
        yield "AUTH_JWKS_URL is http, where anybody on the way can put in keys of theirs. Set AUTH_JWKS_URL to https."
    if not settings.auth_audience and not settings.auth_issuer:
        yield (
            "AUTH_JWKS_URL stands alone: tokens for other applications of the same provider would pass."
            " Set AUTH_AUDIENCE, AUTH_ISSUER or both."
        )


def _live(settings: Given) -> Iterator[str]:
    if not is_live(settings):
        return
    if urlsplit(settings.stripe_api_base or "").scheme == "http":
        yield "STRIPE_API_BASE is http, and the key is a live one. Set STRIPE_API_BASE to https, or leave it out."
    if shop_is_on():
        yield f"{SHOP} has anybody sign in as a buyer, and the key is a live one. Unset {SHOP}."
