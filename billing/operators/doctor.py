"""`onelane doctor`: checks settings, ledger, Redis, broker, catalog and Stripe, with one sentence for each finding.

Nothing is changed. A server that does not answer is `unavailable`; what must be set differently is `wrong`.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError, RedisError

from billing.catalog import Catalog, load_catalog
from billing.coordination.queue import create_producer
from billing.database import Database
from billing.database.migrations.upgrade import is_current
from billing.errors import ConfigurationError, OnelaneError, StripeMissing, TransientError
from billing.operators import lookup
from billing.process.settings import Settings

BROKER_SECONDS = 3


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    UNAVAILABLE = "unavailable"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of `onelane doctor`."""

    subject: str
    verdict: Verdict
    sentence: str


class Prices(Protocol):
    """The calls to Stripe that the checks make."""

    def account(self) -> dict[str, Any]:
        """The key's account."""

    def get_price(self, price_id: str) -> dict[str, Any]:
        """One price. Raises StripeMissing."""

    def get_coupon(self, coupon_id: str) -> dict[str, Any]:
        """One coupon. Raises StripeMissing."""


def examine(settings: Settings, *, stripe: Prices | None) -> Iterator[Finding]:
    """Yield the findings, subject by subject. `stripe` is None without a key: then nothing is asked of Stripe."""
    yield from _guarded("settings", lambda: _settings(settings))
    yield from _guarded("ledger", lambda: _ledger(settings))
    yield from _guarded("redis", lambda: _redis(settings.redis_url))
    if settings.broker_url != settings.redis_url:
        yield from _guarded("broker", lambda: _broker(settings))
    yield from _guarded("catalog", lambda: _catalog(load_catalog(settings.catalog), stripe))
    if stripe is not None:
        yield from _guarded("stripe", lambda: _account(settings, stripe))


def require_given(settings: Settings) -> None:
    """Check the servers that the settings name. Raises ConfigurationError or TransientError for the first bad one."""
    given = settings.model_fields_set
    if "database_url" in given:
        try:
            with closing(Database(settings.database_url)) as database, database.read():
                pass
        except TransientError:
            raise TransientError("DATABASE_URL: the database does not answer. Start it, or set another.") from None
    if "redis_url" in given:
        list(_redis(settings.redis_url))
    if "celery_broker_url" in given:
        list(_broker(settings))


def _guarded(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except ConfigurationError as error:
        yield Finding(subject, Verdict.WRONG, error.sentence)
    except OnelaneError as error:
        verdict = Verdict.UNAVAILABLE if isinstance(error, TransientError) else Verdict.WRONG
        yield Finding(subject, verdict, error.sentence)


def _settings(settings: Settings) -> Iterator[Finding]:
    lacking = {
        "STRIPE_API_KEY": not settings.stripe_api_key,
        "STRIPE_WEBHOOK_SECRETS": not settings.stripe_webhook_secrets,
        "AUTH_JWT_SECRET or AUTH_JWKS_URL or AUTH_API_KEYS": not (
            settings.auth_jwt_secret or settings.auth_jwks_url or settings.auth_api_keys
        ),
        "REDIRECT_ORIGINS": not settings.redirect_origins,
    }
    for name, missing in lacking.items():
        if missing:
            yield Finding("settings", Verdict.WRONG, f"{name} is not set. Set it as README.md lists it.")
    yield from _key(settings)
    if not any(lacking.values()):
        yield Finding("settings", Verdict.OK, "Every setting makes sense.")


def _key(settings: Settings) -> Iterator[Finding]:
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    mode = next((mode for mode in ("live", "test") if key.startswith((f"sk_{mode}_", f"rk_{mode}_"))), None)
    if mode and settings.stripe_livemode not in (None, mode == "live"):
        sentence = f"STRIPE_API_KEY is a {mode} key, STRIPE_LIVEMODE says otherwise. Set both to the same mode."
        yield Finding("settings", Verdict.WRONG, sentence)
    if key.startswith("sk_live_"):
        sentence = "STRIPE_API_KEY may do everything. Use a restricted key (rk_live_…) with what SECURITY.md lists."
        yield Finding("settings", Verdict.WARNING, sentence)


def _ledger(settings: Settings) -> Iterator[Finding]:
    with closing(Database(settings.database_url)) as database:
        kind = "SQLite" if database.is_sqlite else "PostgreSQL"
        current = is_current(database)
    if current:
        yield Finding("ledger", Verdict.OK, f"{kind} answers and has this version's tables.")
    else:
        yield Finding("ledger", Verdict.WRONG, f"{kind} lacks this version's tables. Run `onelane db upgrade`.")


def _redis(url: str) -> Iterator[Finding]:
    if "cluster" in urlsplit(url).scheme:
        raise ConfigurationError("REDIS_URL names a cluster, which Celery cannot use. Set it to one server.")
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=BROKER_SECONDS, socket_timeout=BROKER_SECONDS)
        about: dict[str, Any] = client.info()
    except AuthenticationError:
        raise ConfigurationError(
            "REDIS_URL: the server refuses the password. Set REDIS_URL with the right one."
        ) from None
    except (RedisError, OSError) as error:
        raise TransientError(f"REDIS_URL: the server does not answer ({type(error).__name__}).") from None
    except ValueError:
        raise ConfigurationError("REDIS_URL is no Redis address. Set it like redis://host:6379/0.") from None
    if int(about.get("cluster_enabled", 0)):
        raise ConfigurationError("REDIS_URL is a cluster, which Celery cannot use. Set it to one server.")
    if about.get("role") == "slave":
        raise ConfigurationError("REDIS_URL is a replica, which cannot be written. Set it to the primary.")
    yield Finding("redis", Verdict.OK, f"Answers, version {about.get('valkey_version') or about.get('redis_version')}.")
    if (policy := about.get("maxmemory_policy", "noeviction")) != "noeviction":
        yield Finding("redis", Verdict.WRONG, f"maxmemory-policy is {policy}: it may drop messages. Set noeviction.")
    if not int(about.get("aof_enabled", 0)):
        yield Finding("redis", Verdict.WARNING, "No append-only file: after a restart, work waits for the sweep.")


def _broker(settings: Settings) -> Iterator[Finding]:
    try:
        with create_producer(settings).connection(connect_timeout=BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
    except (OperationalError, OSError) as error:
        raise TransientError(f"CELERY_BROKER_URL: the broker does not answer ({type(error).__name__}).") from None
    yield Finding("broker", Verdict.OK, "Answers.")


def _catalog(catalog: Catalog, stripe: Prices | None) -> Iterator[Finding]:
    for plan in catalog.plans.values():
        if stripe is None:
            continue
        try:
            price = stripe.get_price(plan.price)
            if not price.get("active"):
                yield Finding("catalog", Verdict.WRONG, f"{plan.key}: the price {plan.price} is archived at Stripe.")
            elif not price.get("recurring"):
                yield Finding("catalog", Verdict.WRONG, f"{plan.key}: the price {plan.price} is not recurring.")
            elif plan.amount is not None and price.get("unit_amount") != plan.amount:
                shown = (
                    f"{plan.key}: the catalog shows {plan.amount}, the price {plan.price} takes {price['unit_amount']}."
                )
                yield Finding("catalog", Verdict.WARNING, shown)
        except StripeMissing:
            yield Finding("catalog", Verdict.WRONG, f"{plan.key}: Stripe has no price {plan.price}. Set the right id.")
        try:
            if plan.coupon and not stripe.get_coupon(plan.coupon).get("valid"):
                yield Finding("catalog", Verdict.WRONG, f"{plan.key}: the coupon {plan.coupon} is not valid any more.")
        except StripeMissing:
            yield Finding(
                "catalog", Verdict.WRONG, f"{plan.key}: Stripe has no coupon {plan.coupon}. Set the right id."
            )
    unchecked = "" if stripe else " Stripe was not asked: STRIPE_API_KEY is not set."
    yield Finding("catalog", Verdict.OK, f"{len(catalog.plans)} plans of {catalog.product} read.{unchecked}")


def _account(settings: Settings, stripe: Prices) -> Iterator[Finding]:
    account = str(stripe.account()["id"])
    try:
        with closing(Database(settings.database_url)) as database:
            bound = lookup.bound_account(database=database)
    except TransientError:
        bound = None  # the ledger's own check reports it
    if bound and bound != account:
        raise ConfigurationError(
            f"STRIPE_API_KEY is of {account}, the ledger of {bound}. Set that account's key or another ledger."
        )
    yield Finding("stripe", Verdict.OK, f"Answers for {account}.")
