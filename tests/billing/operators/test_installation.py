"""The installation: one ledger, one account, one mode."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from billing.errors import ConfigurationError
from billing.operators.installation import bind, read
from billing.process.settings import Settings
from tests.support.builders import NOON


@pytest.fixture
def bind_with(database, stripe, clock):
    """Start with this key and these settings."""

    def bind_with(key="sk_test_1", *, account="acct_1", **settings):
        stripe.account_id = account
        told = Settings(_env_file=None, stripe_api_key=key, **settings)
        return bind(database=database, stripe=stripe, settings=told, clock=clock)

    return bind_with


def test_first_start_learns_account_and_mode_from_the_key(database, bind_with):
    """LED-9."""
    with database.read() as connection:
        assert read(connection) is None
    bound = bind_with()
    assert (bound.stripe_account, bound.livemode, bound.bound_at) == ("acct_1", False, NOON)
    with database.read() as connection:
        assert read(connection) == bound
    assert bind_with() == bound


@pytest.mark.parametrize(
    ("key", "livemode"), [("sk_live_1", True), ("rk_live_1", True), ("sk_test_1", False), ("rk_test_1", False)]
)
def test_mode_is_read_from_the_key(bind_with, key, livemode):
    """LED-9."""
    assert bind_with(key).livemode is livemode


@pytest.mark.parametrize(("setting", "livemode"), [(None, False), (False, False), (True, True)])
def test_mode_of_a_key_that_does_not_tell_is_the_setting(bind_with, setting, livemode):
    """LED-9: the sandbox takes any key."""
    assert bind_with("sk_sandbox", stripe_livemode=setting).livemode is livemode


@pytest.mark.parametrize(
    ("later", "names"),
    [
        ({"account": "acct_2"}, "STRIPE_API_KEY"),
        ({"key": "sk_live_1"}, "STRIPE_API_KEY"),
        ({"stripe_account": "acct_2"}, "STRIPE_ACCOUNT"),
        ({"stripe_livemode": True}, "STRIPE_LIVEMODE"),
        ({"account": None}, "STRIPE_API_KEY"),
        ({"account": "rubbish\u0000"}, "STRIPE_API_KEY"),
    ],
    ids=str,
)
def test_start_with_another_account_or_mode_is_refused(database, bind_with, later, names):
    """LED-9: with such a key every customer would look gone. The sentence names the setting, never the key."""
    bound = bind_with(stripe_account="acct_1", stripe_livemode=False)
    with pytest.raises(ConfigurationError) as refusal:
        bind_with(**later)
    assert names in refusal.value.sentence
    assert "sk_" not in refusal.value.sentence
    with database.read() as connection:
        assert read(connection) == bound


def test_settings_that_contradict_the_key_bind_nothing(database, bind_with):
    """LED-9."""
    for settings in ({"stripe_account": "acct_2"}, {"stripe_livemode": True}):
        with pytest.raises(ConfigurationError):
            bind_with(**settings)
    with database.read() as connection:
        assert read(connection) is None


def test_processes_that_start_at_once_agree(bind_with):
    """LED-9."""
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: bind_with(), range(16)))) == 1
