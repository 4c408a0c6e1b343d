"""What `onelane doctor` looks at, in order: settings, ledger, Redis, broker, application, catalog and Stripe.

Whatever a worker or the web checks at its start is here, with the same sentence. A server that does not answer is
`unavailable`; what must be set differently is `wrong`. Nothing that is found ends the examination.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from billing.catalog import Catalog, load_catalog
from billing.clock import SYSTEM_CLOCK, Clock
from billing.database import Database
from billing.database.migrations.upgrade import find
from billing.doctor.alive import examine_deliveries, examine_processes
from billing.doctor.buying import examine_buying
from billing.doctor.clocks import examine_clocks
from billing.doctor.currencies import examine_currencies
from billing.doctor.endpoint import examine_endpoint
from billing.doctor.finding import Finding, Verdict, fine, guarded, wrong
from billing.doctor.given import examine_names, examine_settings
from billing.doctor.portal import examine_portal
from billing.doctor.prices import examine_prices
from billing.doctor.redis import examine_neighbours
from billing.doctor.servers import examine_servers, open_ledger
from billing.errors import ConfigurationError, TransientError
from billing.operators import installation
from billing.operators.audit import audited
from billing.process.settings import Settings, WrongSettings
from billing.services import build_notifier
from billing.stripe_gateway import GatewayClient

Connect = Callable[[Settings], GatewayClient | None]


def examine_installation(
    load: Callable[[], Settings], *, connect: Connect, names: Iterable[str], tries: bool, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Finding]:
    """Yield the findings of this installation. Settings that cannot be read are all that there is to say.

    `names`: of everything that was given as a setting. `tries`: open payment pages and expire them at once.
    """
    try:
        settings = load()
    except WrongSettings as error:
        yield from (wrong("settings", sentence) for sentence in error.sentences)
        yield from examine_names(names)
    else:
        yield from examine(settings, stripe=connect(settings), names=names, tries=tries, clock=clock)


def examine(
    settings: Settings,
    *,
    stripe: GatewayClient | None,
    names: Iterable[str] = (),
    tries: bool = True,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Finding]:
    """Yield the findings, subject by subject. `stripe` is None without a key: then nothing is asked of Stripe."""
    said: set[str] = set()  # what two checks find is said once
    for finding in _all(settings, stripe, names=names, tries=tries, clock=clock):
        if finding.sentence not in said:
            yield finding
        said.add(finding.sentence)


def _all(
    settings: Settings, stripe: GatewayClient | None, *, names: Iterable[str], tries: bool, clock: Clock
) -> Iterator[Finding]:
    yield from guarded("settings", lambda: examine_settings(settings, names))
    is_away = False
    for finding in examine_servers(settings):
        yield finding
        is_away = is_away or (finding.subject == "ledger" and finding.verdict is Verdict.UNAVAILABLE)
    yield from guarded("changes", lambda: _changes(settings))
    if is_away or not _has_tables(settings):
        yield from _with_servers(settings, None, stripe, tries=tries, clock=clock)
        return
    with closing(open_ledger(settings)) as database:
        yield from _with_servers(settings, database, stripe, tries=tries, clock=clock)


def _has_tables(settings: Settings) -> bool:
    """Whether anything can be read of the ledger; why not was said before."""
    try:
        with closing(open_ledger(settings)) as database:
            return find(database).fit.works
    except (ConfigurationError, TransientError):
        return False


def _changes(settings: Settings) -> Iterator[Finding]:
    """Where changes go, built as a worker builds it at its start."""
    build_notifier(settings)
    if settings.app_handlers:
        yield fine("changes", f"APP_HANDLERS: {settings.app_handlers} can be imported.")
    elif settings.app_webhook_url:
        yield fine("changes", f"They are sent to {settings.app_webhook_url} (APP_WEBHOOK_URL).")
    else:
        yield fine("changes", "They are sent nowhere: set APP_WEBHOOK_URL or APP_HANDLERS to hear of them.")


def _with_servers(
    settings: Settings, database: Database | None, stripe: GatewayClient | None, *, tries: bool, clock: Clock
) -> Iterator[Finding]:
    """What takes a ledger (None where it does not answer) or Stripe."""
    if database is not None:
        yield from guarded("redis", lambda: examine_neighbours(settings, database))
        yield from guarded("workers", lambda: examine_processes(database))
        yield from guarded("deliveries", lambda: examine_deliveries(database, clock=clock))
    account = list(guarded("stripe", lambda: _account(settings, database, stripe)))
    yield from account
    if any(finding.verdict is not Verdict.OK for finding in account):
        stripe = None  # it does not answer, or refuses the key: it is asked once
    yield from guarded("clock", lambda: examine_clocks(stripe, database, clock=clock))
    try:
        catalog = load_catalog(settings.catalog)
    except ConfigurationError as error:
        yield wrong("catalog", error.sentence)
        tries = False
        try:
            catalog = load_catalog(settings.catalog, leave_out=["session"])  # the plans may be read all the same
        except ConfigurationError:
            return
    if stripe is None:
        yield from examine_prices(catalog, None)
    else:
        yield from _at_stripe(settings, catalog, database, stripe, tries=tries, clock=clock)


def _account(settings: Settings, database: Database | None, stripe: GatewayClient | None) -> Iterator[Finding]:
    """Whether the key belongs to the ledger's account and mode, as a worker sees to at its start."""
    if stripe is None:
        return  # there is no key, which is said of the settings
    account, livemode = installation.of_key(stripe, settings)
    if database is not None:
        with database.read() as connection:
            bound = installation.read(connection)
        if bound:
            installation.compare(bound, account, livemode)
    yield fine("stripe", f"Answers for {account}, in {'live' if livemode else 'test'} mode.")


def _at_stripe(
    settings: Settings, catalog: Catalog, database: Database | None, stripe: GatewayClient, *, tries: bool, clock: Clock
) -> Iterator[Finding]:
    """What is read of Stripe, and then tried."""
    livemode = installation.mode_of_key(settings)
    yield from guarded("endpoint", lambda: examine_endpoint(stripe, livemode=livemode))
    currencies: set[str] = set()
    found = list(guarded("catalog", lambda: examine_prices(catalog, stripe, currencies=currencies)))
    yield from found
    yield from guarded("portal", lambda: examine_portal(catalog, stripe))
    if database is not None and currencies:
        yield from guarded("currency", lambda: examine_currencies(currencies, stripe, database=database))
    if tries and all(finding.verdict is not Verdict.WRONG for finding in found):  # else it would be said twice
        yield from guarded("buying", lambda: _buying(settings, catalog, database, stripe, clock=clock))


def _buying(
    settings: Settings, catalog: Catalog, database: Database | None, stripe: GatewayClient, *, clock: Clock
) -> Iterator[Finding]:
    """Try to sell, which makes a customer and pages at Stripe: the audit log has it, where there is one (OPS-142)."""
    if database is None:
        yield from examine_buying(catalog, stripe, settings=settings)
        return
    target = f"a payment page for each plan: {', '.join(catalog.plans)}"
    with audited("doctor", target=target, reason=None, database=database, clock=clock) as note:
        found = list(examine_buying(catalog, stripe, settings=settings))
        note(" ".join(finding.sentence for finding in found))
    yield from found
