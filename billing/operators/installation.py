"""The installation: which Stripe account and mode this ledger belongs to, learned once and kept.

A key of another account, or of the other mode, is refused at the start: with it every customer would look gone,
and the projection would follow. Events that say anything else are recorded as rejected (LED-9, LED-10).
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database
from billing.errors import ConfigurationError
from billing.ids import ACCOUNT, id_like
from billing.operators.installation_store import insert_first, read_row
from billing.settings import Settings
from billing.stripe_gateway import StripeGateway


@dataclass(frozen=True, slots=True)
class Installation:
    """The account and the mode."""

    stripe_account: str
    livemode: bool
    bound_at: datetime


def bind(*, database: Database, stripe: StripeGateway, settings: Settings, clock: Clock) -> Installation:
    """Learn the account and mode of the key, agree with the settings and the ledger, or raise ConfigurationError.

    The first one to come binds; whoever comes at the same time finds it bound and compares.
    """
    account, livemode = _account_of_key(stripe, settings), _mode_of_key(settings)
    with database.write() as connection:
        insert_first(connection, stripe_account=account, livemode=livemode, bound_at=clock.now())
        bound = read(connection)
    assert bound is not None, "just inserted, or there before"
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
    return bound


def read(connection: sa.Connection) -> Installation | None:
    """What this ledger is bound to; None before the first start with a key."""
    row = read_row(connection)
    return None if row is None else Installation(**row)


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


def _mode_of_key(settings: Settings) -> bool:
    """Live or test, as the key's prefix says; a key without one (a sandbox's) is what STRIPE_LIVEMODE says."""
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
