"""The kinds of text that settings are: each refuses what cannot be meant so, in words that go on after its name."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from billing.process.server_url import read_broker, read_server


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # .port refuses 99999
        raise ValueError("must be an http:// or https:// address")
    return value.rstrip("/")


def _redis_url(value: str) -> str:
    read_server(value)
    return value


def _broker_url(value: str) -> str:
    read_broker(value)
    return value


def _rate(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}\s*(/|per)\s*([1-9][0-9]{0,4}\s*)?(second|minute|hour|day)s?", value):
        raise ValueError("must read like 30/minute")
    return value


def _stripe_key(value: SecretStr) -> SecretStr:
    if value.get_secret_value().startswith("pk_"):
        raise ValueError("is a publishable key; take the secret one (sk_...) or a restricted one (rk_...)")
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("has a character that no key has; copy it again")
    return value


def _jwt_secret(value: SecretStr) -> SecretStr:
    # 32 bytes: what HS256 asks for (RFC 7518, 3.2); PyJWT warns below that.
    if len(value.get_secret_value().encode()) < 32:
        raise ValueError("must have at least 32 bytes")
    return value


def _secrets(value: Any) -> Any:
    secrets = _split(value)
    if value and not secrets:
        raise ValueError("names no secret; separate several by commas")
    if any(not part.isascii() or not part.isprintable() for part in secrets if isinstance(part, str)):
        raise ValueError("has a character that no header can carry; use printable ASCII")
    return secrets


def _origins(value: Any) -> Any:
    return tuple(map(_origin, _split(value)))


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "*" in value or parts.path not in ("", "/"):
        raise ValueError(f"{value!r} is no origin; write it like https://app.example.com")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{value!r} is more than an origin; write it like https://app.example.com")
    port = f":{parts.port}" if parts.port and parts.port != {"http": 80, "https": 443}[parts.scheme] else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname  # IPv6, as browsers write it
    return f"{parts.scheme}://{host}{port}"


WebAddress = Annotated[str, AfterValidator(_web_address)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
Rate = Annotated[str, AfterValidator(_rate)]
StripeKey = Annotated[SecretStr, AfterValidator(_stripe_key)]
JwtSecret = Annotated[SecretStr, AfterValidator(_jwt_secret)]
# Several, separated by commas.
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_secrets)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
