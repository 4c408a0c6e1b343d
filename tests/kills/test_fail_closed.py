"""What a buyer is told while something is away: an answer before it is back, and never a second session.

Redis dead or hanging, Stripe cut off or failing: 503 with Retry-After and with where the checkout will be; Stripe's
events are taken all the same; when it is back the checkout is served.
"""

import hashlib
import hmac
import json
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.kills.asking import Answer
from tests.kills.world import SIGNING_SECRET, World, running_world
from tests.support.databases import Postgres
from tests.support.valkey import wait_until

WAIT_SECONDS = 3
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("closed")
    with (
        postgres.fresh() as database,
        running_world(
            folder, database=database, workers=2, sweep_seconds=1, CHECKOUT_WAIT_SECONDS=str(WAIT_SECONDS)
        ) as running,
    ):
        yield running


@pytest.fixture(params=["killed", "hanging"])
def without_redis(request: pytest.FixtureRequest, world: World) -> Iterator[Callable[[], None]]:
    """Redis is away until the given function is called."""
    hangs = request.param == "hanging"
    world.buy(f"before-{request.param}")  # every connection was in use once
    away = [True]

    def back() -> None:
        if away.pop() if away else False:
            if hangs:
                world.valkey.signal(signal.SIGCONT)
            else:
                world.valkey.start()

    if hangs:
        world.valkey.signal(signal.SIGSTOP)
    else:
        world.valkey.kill()
    yield back
    back()


def test_checkout_without_redis_is_answered_in_time_and_served_later(
    world: World, without_redis: Callable[[], None], request: pytest.FixtureRequest
) -> None:
    """API-28, API-31, CHK-13: the row stays, and the sweep finds it."""
    user_id = f"buyer-{request.node.callspec.id}"
    answer = world.post(user_id)
    asked_again = world.post(user_id)
    event = _event(world, f"evt_{request.node.callspec.id}")
    print(f"SECONDS {request.node.callspec.id} {answer.seconds:.2f} {asked_again.seconds:.2f} {event.seconds:.2f}")
    _is_closed(answer, "try_again")
    _is_closed(asked_again, "try_again")
    assert (event.status, event.body["status"]) == (200, "recorded")
    assert not [one for one in world.stripe.sessions().values() if one["client_reference_id"] == user_id]
    without_redis()
    location = answer.location
    assert location
    wait_until(lambda: bool(world.read(location, user_id).body["url"]), "the checkout is served", 60)
    world.at_rest(user_id, world.read(location, user_id).body["url"], creates=1)


@pytest.mark.parametrize("how", ["cut off", "reads fail", "slow"])
def test_checkout_without_stripe_is_answered_in_time_and_creates_nothing(world: World, how: str) -> None:
    """API-27, LAN-14: 503 while Stripe's reads say nothing; afterwards one session."""
    user_id = f"stripeless-{how.replace(' ', '-')}"
    world.buy(f"{user_id}-before")
    before = world.stripe.count("checkout_session")
    assert before
    if how == "cut off":
        world.proxy.refusing = True
    else:
        fault = {"kind": "status", "status": 503} if how == "reads fail" else {"kind": "delay_before", "seconds": 4.0}
        world.stripe.control("POST", "/_sandbox/faults", {"method": "GET", "path": "^/v1/", "times": None, **fault})
    try:
        answer = world.post(user_id)
        if how == "slow":  # nothing has failed yet when the wait is over
            assert answer.status in (202, 503)
            assert answer.location
        else:
            _is_closed(answer, "stripe_unavailable")
        again = world.post(user_id)
        print(f"SECONDS {how} {answer.status} {answer.seconds:.2f} {again.status} {again.seconds:.2f}")
        assert again.status in (202, 503)
    finally:
        world.proxy.refusing = False
        made = world.stripe.count("checkout_session") - before
        world.stripe.control("DELETE", "/_sandbox/faults")
    assert made == 0, "nothing is created in doubt"
    world.at_rest(user_id, world.buy(user_id)["url"], creates=1)


def _is_closed(answer: Answer, code: str) -> None:
    assert (answer.status, answer.body["code"]) == (503, code), answer
    assert answer.retry_after
    assert answer.location == f"/v1/checkouts/{answer.body['checkout_id']}"


def _event(world: World, event_id: str) -> Answer:
    body = json.dumps(
        {
            "id": event_id,
            "object": "event",
            "type": "customer.created",
            "api_version": "2026-10-28.endive",
            "created": int(time.time()),
            "livemode": False,
            "pending_webhooks": 1,
            "request": None,
            "data": {"object": {"id": "cus_of_nobody", "object": "customer"}},
        }
    ).encode()
    now = str(int(time.time()))
    signed = hmac.new(SIGNING_SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return world.event(body, f"t={now},v1={signed}")
