"""The settings of `onelane dev`: given ones are used, missing ones are embedded or generated (OPS-13).

Generated secrets stay in `var/dev-secrets.json` (mode 600), so that tokens and signatures outlive a restart. While it
runs, commands in the same folder find everything by `var/dev.json`.
"""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.dev.ports import address_here, free_port
from billing.catalog import Catalog
from billing.errors import ConfigurationError
from billing.process.setting_sources import DEV_STATE
from billing.process.settings import Settings
from billing.process.unsafe_settings import is_live

VALKEY_PORT = 16379  # not the usual one, which may be taken by a Redis
SANDBOX_PORT = 12111
# By which commands in this folder find the same servers.
_SERVERS = ("port", "bind", "database_url", "redis_url", "celery_broker_url", "stripe_api_base", "catalog")


@dataclass(frozen=True)
class DevSettings:
    """Decided once, at start. `valkey_port` and `sandbox_port` are None when none is embedded."""

    values: Mapping[str, str]  # for the environment of every process, and for dev.json
    generated: Mapping[str, str]  # those of `values` that were not given
    given: Mapping[str, str]  # all others that were, but for secrets
    valkey_port: int | None
    sandbox_port: int | None
    home: str  # the address of the web, for a browser on this machine
    signing_secret: str  # of the sandbox: the first that was given, or the generated one
    shop: bool  # it signs its own tokens: not where AUTH_JWKS_URL checks them, and not for real money

    @property
    def sandbox_home(self) -> str | None:
        return f"http://127.0.0.1:{self.sandbox_port}" if self.sandbox_port else None


def decide(settings: Settings, *, folder: Path) -> DevSettings:
    """Fill in what is missing. Looks for free ports, writes the generated secrets, starts nothing."""
    given = settings.model_fields_set
    values: dict[str, str] = {}
    kept = _generated_secrets(folder / "dev-secrets.json")
    home = address_here(settings.bind, settings.port)
    valkey_port = sandbox_port = None
    if "database_url" not in given:
        values["DATABASE_URL"] = f"sqlite:///{folder.resolve()}/ledger.sqlite3"
    if "redis_url" not in given:
        valkey_port = free_port(VALKEY_PORT)
        values["REDIS_URL"] = f"redis://127.0.0.1:{valkey_port}/0"
    if not given & {"stripe_api_key", "stripe_api_base"}:
        sandbox_port = free_port(SANDBOX_PORT)
        values["STRIPE_API_BASE"] = f"http://127.0.0.1:{sandbox_port}"
        if "stripe_max_per_second" not in given:
            values["STRIPE_MAX_PER_SECOND"] = "1000"  # the sandbox has no limit of its own
    if "stripe_api_key" not in given:
        values["STRIPE_API_KEY"] = kept["STRIPE_API_KEY"]
    if not settings.stripe_webhook_secrets:
        values["STRIPE_WEBHOOK_SECRETS"] = kept["STRIPE_WEBHOOK_SECRETS"]
    if not settings.auth_jwt_secret and not settings.auth_jwks_url:
        values["AUTH_JWT_SECRET"] = kept["AUTH_JWT_SECRET"]
    if not settings.console_password and not settings.console_user_header:
        values["CONSOLE_PASSWORD"] = kept["CONSOLE_PASSWORD"]
    if not settings.redirect_origins:
        values["REDIRECT_ORIGINS"] = f"{home},http://localhost:{settings.port}"
    for name in ("rate_limit_checkouts", "rate_limit_different_checkouts"):
        if name not in given:
            values[name.upper()] = "1000/minute"  # a storm that is tried here is served
    if "rate_limit_addresses" not in given:
        values["RATE_LIMIT_ADDRESSES"] = "1000000/minute"  # every request comes from this machine
    signing = [secret.get_secret_value() for secret in settings.stripe_webhook_secrets]
    return DevSettings(
        values={**_plain(settings, *_SERVERS), **values},
        generated=values,
        given=_plain(settings, *given),
        valkey_port=valkey_port,
        sandbox_port=sandbox_port,
        home=home,
        signing_secret=signing[0] if signing else kept["STRIPE_WEBHOOK_SECRETS"],
        shop=not settings.auth_jwks_url and not is_live(settings),
    )


def write_state(decided: DevSettings) -> None:
    """Write the state for commands in this folder. A secret that was given is not written."""
    settings = {**decided.given, **decided.values}
    write_private(DEV_STATE, json.dumps({"pid": os.getpid(), "settings": settings}))


def remove_state() -> None:
    with suppress(FileNotFoundError):
        DEV_STATE.unlink()


def sandbox_seed(catalog: Catalog) -> list[dict[str, Any]]:
    """The catalog as Stripe objects, for the sandbox."""
    product = f"prod_{catalog.product}"
    seed: list[dict[str, Any]] = [{"object": "product", "id": product, "name": catalog.name}]
    for plan in catalog.plans.values():
        currency = plan.currency or "usd"
        seed.append(
            {
                "object": "price",
                "id": plan.price,
                "product": product,
                "nickname": plan.name,
                "currency": currency,
                "unit_amount": plan.amount if plan.amount is not None else 1000,
                "recurring": {"interval": plan.interval, "interval_count": plan.interval_count},
            }
        )
        if plan.coupon:
            off = {"amount_off": plan.coupon_amount_off, "currency": currency}
            terms = off if plan.coupon_amount_off else {"percent_off": 50}
            name = plan.coupon_text or plan.coupon
            seed.append({"object": "coupon", "id": plan.coupon, "duration": "once", "name": name[:40], **terms})
    return seed


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _plain(settings: Settings, *names: str) -> dict[str, str]:
    """These settings as the environment has them: no secret that was given."""
    values = {name.upper(): getattr(settings, name) for name in names}
    return {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in values.items()
        if value is not None and not _is_secret(value)
    }


def _is_secret(value: object) -> bool:
    return isinstance(value, SecretStr) or (isinstance(value, tuple) and any(map(_is_secret, value)))


def _generated_secrets(path: Path) -> dict[str, str]:
    fresh = {
        "STRIPE_API_KEY": f"sk_test_{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRETS": f"whsec_{secrets.token_hex(24)}",
        "AUTH_JWT_SECRET": secrets.token_urlsafe(32),
        "CONSOLE_PASSWORD": secrets.token_urlsafe(18),
    }
    try:
        kept = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        write_private(path, json.dumps(fresh))
        return fresh
    except (OSError, ValueError):
        kept = None
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise ConfigurationError(f"{path} is not as onelane dev writes it. Remove it: new secrets will be made.")
    if not fresh.keys() <= kept.keys():  # written by a version that had fewer
        write_private(path, json.dumps(fresh | kept))
    return fresh | kept
