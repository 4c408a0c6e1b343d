"""The installation: the Stripe account and mode that this ledger belongs to. One row, written once.

A start with a key of another account or mode is refused: with it every customer would look deleted, and the
projection would follow. An event of another account or mode is recorded as rejected (LED-9, LED-10).
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database, insert_new
from billing.errors import ConfigurationError
from billing.models import installation
from billing.process.settings import Settings
from billing.rules.ids import ACCOUNT, id_like
from billing.stripe_gateway import StripeGateway

ONLY_ROW = 1


@dataclass(frozen=True, slots=True)
class Installation:
    stripe_account: str
    livemode: bool
    bound_at: datetime


def bind(*, database: Database, stripe: StripeGateway, settings: Settings, clock: Clock) -> Installation:
    """Bind the ledger to the key's account and mode, or compare with what it is bound to. Raises ConfigurationError.

    Of several processes that start at once, one inserts the row and the others compare.
    """
    account, livemode = of_key(stripe, settings)
    with database.write() as connection:
        insert_first(connection, stripe_account=account, livemode=livemode, bound_at=clock.now())
        bound = read(connection)
    assert bound is not None, "just inserted, or there before"
    compare(bound, account, livemode)
    return bound


def of_key(stripe: StripeGateway, settings: Settings) -> tuple[str, bool]:
    """The account and the mode of the key, which the settings must not contradict. Raises ConfigurationError."""
    return _account_of_key(stripe, settings), mode_of_key(settings)


def compare(bound: Installation, account: str, livemode: bool) -> None:
    """Raise ConfigurationError where the ledger belongs to another account or mode."""
    if bound.stripe_account != account:
        raise ConfigurationError(
            f"STRIPE_API_KEY belongs to {account}, but this ledger to {bound.stripe_account}. "
            "Set STRIPE_API_KEY to a key of that account, or DATABASE_URL to another ledger."
        )
    if bound.livemode != livemode:
        raise ConfigurationError(
            f"STRIPE_API_KEY is a {_mode(livemode)} key, but this ledger holds {_mode(bound.livemode)} data. "
            f"Set STRIPE_API_KEY to a {_mode(bound.livemode)} key, or DATABASE_URL to another ledger."
        )


def read(connection: sa.Connection) -> Installation | None:
    """The account and mode of this ledger; None before the first start with a key."""
    columns = [installation.c[name] for name in Installation.__slots__]
    row = connection.execute(sa.select(*columns).where(installation.c.id == ONLY_ROW)).first()
    return None if row is None else Installation(**row._mapping)


def insert_first(connection: sa.Connection, *, stripe_account: str, livemode: bool, bound_at: datetime) -> bool:
    """Bind the ledger unless it is bound; whether this call bound it."""
    values = {"id": ONLY_ROW, "stripe_account": stripe_account, "livemode": livemode, "bound_at": bound_at}
    return insert_new(connection, installation, values)


def _account_of_key(stripe: StripeGateway, settings: Settings) -> str:
    account = id_like(ACCOUNT, stripe.account().get("id"))
    if account is None:
        raise ConfigurationError("Stripe names no account for STRIPE_API_KEY. Set STRIPE_API_KEY to a secret key.")
    if settings.stripe_account not in (None, account):
        raise ConfigurationError(
            f"STRIPE_ACCOUNT is {settings.stripe_account}, but STRIPE_API_KEY belongs to {account}. "
            "Set both to the same account."
        )
    return account


def mode_of_key(settings: Settings) -> bool:
    """Whether the key is a live one, by its prefix; for a key without one (the sandbox's) by STRIPE_LIVEMODE.

    Raises ConfigurationError where the two differ.
    """
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    if key.startswith(("sk_live_", "rk_live_")):
        livemode = True
    elif key.startswith(("sk_test_", "rk_test_")):
        livemode = False
    else:
        return bool(settings.stripe_livemode)
    if settings.stripe_livemode not in (None, livemode):
        raise ConfigurationError(
            f"STRIPE_LIVEMODE is {str(settings.stripe_livemode).lower()}, but STRIPE_API_KEY is a {_mode(livemode)} "
            "key. Set both to the same mode."
        )
    return livemode


def _mode(livemode: bool) -> str:
    return "live" if livemode else "test"
