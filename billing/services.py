"""Services: the collaborators that every flow is handed, built once per process.

Implementations are chosen here and nowhere else. The web has no Stripe key, so its `stripe` is None (0014).
"""

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import redis

from billing.catalog import Catalog, load_catalog
from billing.clock import Clock, SystemClock
from billing.coordination.locks import Locks, RedisLocks
from billing.coordination.queue import CeleryQueue, Queue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.coordination.wakeups import RedisWakeups, Wakeups
from billing.database import Database
from billing.database.migrations.upgrade import find
from billing.errors import ConfigurationError, StripeMisconfigured
from billing.notifications.handlers import HandlerNotifier
from billing.notifications.senders import HttpNotifier, LogNotifier, Notifier
from billing.operators.installation import bind
from billing.operators.neighbours import Neighbours
from billing.operators.presence import count_workers
from billing.process.settings import Settings
from billing.stripe_gateway import Budget, GatewayClient, Pace, SharedBudget, StripeGateway


@dataclass(frozen=True)
class Services:
    """The collaborators of every flow."""

    settings: Settings
    catalog: Catalog
    database: Database
    queue: Queue
    wakeups: Wakeups
    locks: Locks
    stripe: StripeGateway | None
    clock: Clock = field(default_factory=SystemClock)
    application: Notifier | None = None  # in place of what the settings name
    redis: "redis.Redis | None" = None  # the connections of this process; None in tests without

    @property
    def neighbours(self) -> Neighbours | None:
        """Where to look for processes of other ledgers with our keys in Redis."""
        if self.redis is None:
            return None
        return Neighbours(self.redis, self.database, prefix=self.settings.redis_key_prefix)

    @cached_property
    def notifier(self) -> Notifier:
        """The way to the application. Built at first use: only workers import the application's handlers."""
        return self.application or build_notifier(self.settings)


def build_services(settings: Settings) -> Services:
    """Build the services from the settings, without opening a connection. Raises ConfigurationError."""
    clock = SystemClock()
    client, prefix = connect_redis(settings.redis_url), settings.redis_key_prefix
    database = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        prepare_statements=settings.database_prepare,
    )
    return Services(
        settings=settings,
        catalog=load_catalog(settings.catalog),
        database=database,
        queue=CeleryQueue(create_producer(settings), client, prefix=prefix),
        wakeups=RedisWakeups(client, prefix=prefix),
        locks=RedisLocks(client, lifetime_seconds=settings.customer_lock_seconds, prefix=f"{prefix}lock:"),
        stripe=build_stripe(
            settings,
            clock,
            budget=SharedBudget(
                settings.stripe_max_per_second,
                client=client,
                key=f"{prefix}stripe-budget",
                count_workers=partial(count_workers, database),
            ),
        ),
        clock=clock,
        redis=client,
    )


def require_stripe(services: Services, *, why: str) -> None:
    """Go on only once the ledger has its tables and belongs to the key's account.

    With another account's key every customer would look deleted. `why` ends the sentence that asks for a key. Raises
    ConfigurationError, and TransientError when Stripe or the ledger does not answer.
    """
    if services.stripe is None:
        raise ConfigurationError(f"STRIPE_API_KEY is not set. Set it: {why}")
    if not (found := find(services.database)).fit.works:
        raise ConfigurationError(found.sentence)
    bind(database=services.database, stripe=services.stripe, settings=services.settings, clock=services.clock)


def places(services: Services, *, in_background: bool = False) -> dict[str, Any]:
    """What the context of every flow has (billing/subscriptions/context.py); buyers go before the background."""
    if services.stripe is None:  # no worker and no command that asks Stripe starts without a key
        raise StripeMisconfigured("STRIPE_API_KEY is not set. Set it: workers are who talks to Stripe.")
    return {
        "database": services.database,
        "stripe": services.stripe.low_priority() if in_background else services.stripe,
        "queue": services.queue,
        "clock": services.clock,
        "catalog": services.catalog,
    }


def build_notifier(settings: Settings) -> Notifier:
    """The way to the application that the settings name. Raises ConfigurationError."""
    if settings.app_handlers is not None:
        return HandlerNotifier(settings.app_handlers)
    if settings.app_webhook_url is None or settings.app_webhook_secret is None:
        return LogNotifier()
    return HttpNotifier(settings.app_webhook_url, settings.app_webhook_secret.get_secret_value())


def build_stripe(settings: Settings, clock: Clock, *, budget: Budget | None = None) -> GatewayClient | None:
    """The gateway with the settings' key; None without one. Without a `budget`, with one of its own."""
    if settings.stripe_api_key is None:
        return None
    return GatewayClient(
        settings.stripe_api_key.get_secret_value(),
        api_base=settings.stripe_api_base,
        timeout_seconds=settings.stripe_timeout_seconds,
        pace=Pace(budget or settings.stripe_max_per_second),
        clock=clock,
    )
