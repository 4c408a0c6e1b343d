"""What `onelane doctor` looks at, in order: settings, ledger, Redis, broker, catalog and Stripe.

A server that does not answer is `unavailable`; what must be set differently is `wrong`.
"""

from collections.abc import Iterator
from contextlib import closing

from billing.catalog import Catalog, load_catalog
from billing.database import Database
from billing.doctor.buying import examine_buying
from billing.doctor.currencies import examine_currencies
from billing.doctor.finding import Finding, Verdict, fine, guarded, wrong
from billing.doctor.given import examine_settings
from billing.doctor.portal import examine_portal
from billing.doctor.prices import examine_prices
from billing.doctor.redis import examine_redis
from billing.doctor.servers import examine_broker, examine_ledger
from billing.errors import ConfigurationError, TransientError
from billing.operators import lookup
from billing.process.settings import Settings
from billing.stripe_gateway import GatewayClient


def examine(settings: Settings, *, stripe: GatewayClient | None, tries: bool = True) -> Iterator[Finding]:
    """Yield the findings, subject by subject. `stripe` is None without a key: then nothing is asked of Stripe.

    `tries`: open payment pages and expire them; without it Stripe is only read.
    """
    yield from guarded("settings", lambda: examine_settings(settings))
    yield from guarded("ledger", lambda: examine_ledger(settings))
    yield from guarded("redis", lambda: examine_redis(settings))
    if settings.broker_url != settings.redis_url:
        yield from guarded("broker", lambda: examine_broker(settings))
    try:
        catalog = load_catalog(settings.catalog)
    except ConfigurationError as error:
        yield wrong("catalog", error.sentence)
        catalog = None
    account = list(guarded("stripe", lambda: _account(settings, stripe)))
    yield from account
    if any(finding.verdict is not Verdict.OK for finding in account):
        stripe = None  # it does not answer, or refuses the key: it is asked once
    if catalog is None:
        return
    if stripe is None:
        yield from examine_prices(catalog, None)
    else:
        yield from _at_stripe(settings, catalog, stripe, tries=tries)


def _at_stripe(settings: Settings, catalog: Catalog, stripe: GatewayClient, *, tries: bool) -> Iterator[Finding]:
    """What is read of Stripe, and then tried."""
    found = list(guarded("catalog", lambda: examine_prices(catalog, stripe)))
    yield from found
    yield from guarded("portal", lambda: examine_portal(catalog, stripe))
    yield from guarded("currency", lambda: _currencies(settings, catalog, stripe))
    if tries and all(finding.verdict is not Verdict.WRONG for finding in found):  # else it would be said twice
        yield from guarded("buying", lambda: examine_buying(catalog, stripe, settings=settings))


def _currencies(settings: Settings, catalog: Catalog, stripe: GatewayClient) -> Iterator[Finding]:
    with closing(Database(settings.database_url)) as database:
        yield from examine_currencies(catalog, stripe, database=database)


def _account(settings: Settings, stripe: GatewayClient | None) -> Iterator[Finding]:
    if stripe is None:
        return  # there is no key, which is said of the settings
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
    yield fine("stripe", f"Answers for {account}.")
