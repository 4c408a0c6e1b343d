"""Handlers: the application's own functions in the worker."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from billing.database import Database
from billing.errors import ConfigurationError
from billing.notifications import handlers
from billing.notifications.deliver import NotifyReport, notify
from billing.notifications.handlers import HandlerNotifier, on
from billing.notifications.senders import NotDelivered
from billing.process.settings import load_settings
from billing.subscriptions import projection_store
from tests.support.builders import NOON

ROOT = Path(__file__).parents[3]
Write = Callable[[str], str]


@pytest.fixture(autouse=True)
def nobody_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has the registry for itself."""
    monkeypatch.setattr(handlers, "_registered", {})


def test_first_import_of_the_public_names_keeps_working() -> None:
    """NTF-6"""
    import onelane
    from billing.subscriptions import handlers as first

    assert (first.on, first.Notification) == (onelane.on, onelane.Notification) == (on, handlers.Notification)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module that can be imported; its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(source: str) -> str:
        (tmp_path / "shop_handlers.py").write_text(textwrap.dedent(source), "utf-8")
        return "shop_handlers"

    yield put
    sys.modules.pop("shop_handlers", None)


def heard() -> list[Any]:
    """What the module noted."""
    return list(sys.modules["shop_handlers"].heard)


LISTENS = """
    from billing.notifications.handlers import on
    heard = []

    @on("subscription.activated", "subscription.canceled")
    def first(notification):
        heard.append(("first", notification.type, notification.message_id, notification.data["number"]))

    @on()
    def every(notification):
        heard.append(("every", notification.type, notification.message_id, notification.data["number"]))
"""


def body(kind: str, number: int = 1) -> dict[str, Any]:
    """What notifications hand over."""
    return {"type": kind, "timestamp": "2026-06-01T12:00:00Z", "data": {"number": number}}


def test_functions_hear_of_the_changes_that_they_registered_for(write: Write) -> None:
    """NTF-6"""
    notifier = HandlerNotifier(write(LISTENS))
    notifier.send("msg_1", body("subscription.activated"), at=NOON)
    notifier.send("msg_2", body("subscription.updated", 2), at=NOON)
    assert heard() == [
        ("first", "subscription.activated", "msg_1", 1),
        ("every", "subscription.activated", "msg_1", 1),
        ("every", "subscription.updated", "msg_2", 2),
    ]


def test_function_that_raises_hears_of_it_again_and_nobody_is_overtaken(
    write: Write, database: Database, clock: Any
) -> None:
    """NTF-6, NTF-1, NTF-2: as with an application that answers 500."""
    notifier = HandlerNotifier(
        write(LISTENS + "        if len(heard) == 1:\n            raise ValueError('card 4242 of ann@example.com')\n")
    )
    for number in (1, 2):
        with database.write() as connection:
            change = {"kind": "subscription.updated", "payload": {"number": number}, "now": clock.now()}
            projection_store.note_change(connection, customer_id="cus_1", **change)
    assert notify(database=database, notifier=notifier, clock=clock) == NotifyReport(postponed=1)
    clock.advance(seconds=10)
    assert notify(database=database, notifier=notifier, clock=clock) == NotifyReport(delivered=2)
    assert [number for *_, number in heard()] == [1, 1, 2]
    assert len({message_id for _, _, message_id, _ in heard()}) == 2


def test_what_a_function_raises_is_named_and_not_told(write: Write) -> None:
    """NTF-6: it may hold anything."""
    notifier = HandlerNotifier(write(LISTENS + "        raise ValueError('card 4242 of ann@example.com')\n"))
    with pytest.raises(NotDelivered) as raised:
        notifier.send("msg_1", body("subscription.updated"), at=NOON)
    assert raised.value.sentence == "The handler shop_handlers.every raised ValueError."


@pytest.mark.parametrize(
    "source",
    [
        "import nothing_of_that_name",
        "1 / 0",
        "def broken(",
        "from billing.notifications.handlers import on\non('subscription.sold')",
    ],
    ids=["imports what is not there", "raises", "is no Python", "registers for what does not exist"],
)
def test_module_that_is_no_use_stops_the_worker_at_its_start(write: Write, source: str) -> None:
    """NTF-7"""
    with pytest.raises(ConfigurationError):
        HandlerNotifier(write(source))


def test_unknown_change_names_those_that_there_are() -> None:
    """NTF-7"""
    with pytest.raises(ConfigurationError, match=r"no change 'subscription.sold'.*subscription.activated"):
        on("subscription.sold")


def test_worker_without_its_handlers_ends_with_one_line(tmp_path: Path) -> None:
    """NTF-7: by the command itself, before anything is connected to."""
    run = subprocess.run(
        [sys.executable, "-m", "worker", "work"],
        env={"APP_HANDLERS": "no_such_module", "PYTHONPATH": str(ROOT), "CATALOG": str(ROOT / "catalog.toml")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 78
    assert "APP_HANDLERS" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr


def test_calls_and_handlers_exclude_each_other() -> None:
    """NTF-6: each change has one way to the application."""
    both = {"app_webhook_url": "https://app.example", "app_webhook_secret": "whsec_x", "app_handlers": "shop"}
    with pytest.raises(ConfigurationError, match="exclude each other"):
        load_settings(**both)
