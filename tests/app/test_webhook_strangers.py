"""Forged and broken deliveries, over the whole application: refused, with nothing kept of them and nothing told."""

import io
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from structlog.testing import capture_logs

from billing.models import events
from tests.app.conftest import MakeApp
from tests.support.builders import SECRET
from tests.support.callers import CALLERS, over
from tests.support.checkout_world import World
from tests.support.strangers import FINE, KINDS, MAX_BYTES, Kind
from tests.support.web import check_problem

PATH = "/webhooks/stripe"
CODES = {400: {"invalid_signature", "invalid_event"}, 413: {"payload_too_large"}}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """The real application."""
    return make_app(webhook_max_bytes=MAX_BYTES)


def send(app: Flask, world: World, kind: Kind, **environ: Any) -> Any:
    """The answer, with an id of the request's own."""
    header = kind.header(kind.body, SECRET, world.clock.now().timestamp())
    given = {} if header is None else {"HTTP_STRIPE_SIGNATURE": header}
    whole = {"wsgi.input": io.BytesIO(kind.body), "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(kind.body))}
    return app.test_client().post(PATH, environ_overrides=whole | given | environ, buffered=True)


def nothing_happened(world: World) -> bool:
    """Nothing is in the ledger, and nobody was woken."""
    with world.database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(events)) == 0 and world.queue.sent == []


@pytest.mark.parametrize("caller", CALLERS)
def test_what_is_forged_or_broken_is_refused_and_leaves_nothing(
    app: Flask, world: World, subtests: pytest.Subtests, caller: str
) -> None:
    """WHK-2, WHK-4, WHK-6, WHK-7, API-4; faults 50 to 56: every way in, with no traceback and not a byte of it told."""
    over(caller, app)
    for name, kind in KINDS.items():
        with subtests.test(name), capture_logs() as logs:
            answer = send(app, world, kind)
            assert answer.status_code == kind.status
            check_problem(answer)
            assert answer.get_json(force=True)["code"] in CODES[kind.status]
            assert nothing_happened(world)
            assert [line for line in logs if line["log_level"] in ("error", "critical") or "exc_info" in line] == []
            assert len(answer.data) < 1000
            assert "stranger" not in answer.get_data(as_text=True)
    assert send(app, world, KINDS["header: none"]._replace(body=FINE)).status_code == 400


def test_the_table_can_be_taken(app: Flask, world: World) -> None:
    """WHK-2: else every kind is refused for something that all of them have."""
    good = Kind(FINE, KINDS["signed: empty"].header)
    assert send(app, world, good).status_code == 200
    assert not nothing_happened(world)


@pytest.mark.parametrize("caller", CALLERS)
def test_length_that_is_a_lie_is_refused_early(app: Flask, world: World, caller: str) -> None:
    """WHK-1; fault 54: ten gigabytes are refused by what they say, and never read."""
    over(caller, app)

    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            self.taken += len(buffer)
            return len(buffer)

    header = KINDS["signed: empty"].header
    for said in ({"CONTENT_LENGTH": str(10 * 2**30)}, {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}):
        stream = Endless()
        answer = send(app, world, Kind(FINE, header), **{"wsgi.input": io.BufferedReader(stream), **said})
        assert answer.status_code == 413
        assert stream.taken <= MAX_BYTES + 2**16
    assert nothing_happened(world)
