"""POST /v1/checkouts with an Idempotency-Key."""

import pytest

from app.answers import idempotency_key
from billing.errors import InvalidRequest
from tests.support.checkout_world import World
from tests.support.web import Web


def test_same_idempotency_key_gives_the_same_checkout_as_it_is_now(served: Web, world: World) -> None:
    """API-24"""
    first = served.checkout(headers={"Idempotency-Key": '"key 1"'})
    again = served.checkout(headers={"Idempotency-Key": '"key 1"'})

    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert world.creates() == 1

    world.clock.advance(hours=23, minutes=30)
    late = served.checkout(headers={"Idempotency-Key": '"key 1"'})
    assert (late.status_code, late.get_json()["status"], late.get_json()["url"]) == (200, "expired", None)


def test_idempotency_key_of_another_body_is_refused_and_another_users_is_not_seen(web: Web) -> None:
    """API-24"""
    web.checkout(headers={"Idempotency-Key": "k"})

    other_body = web.checkout(headers={"Idempotency-Key": "k"}, plan="commit")
    other_user = web.checkout(headers={"Idempotency-Key": "k"}, user="user_2", plan="commit")

    assert (other_body.status_code, other_body.get_json(force=True)["code"]) == (422, "idempotency_key_reused")
    assert (other_user.status_code, "Idempotent-Replayed" in other_user.headers) == (202, False)


@pytest.mark.parametrize(("header", "key"), [('"a b"', "a b"), ("a-b", "a-b"), (None, None), ("x" * 255, "x" * 255)])
def test_idempotency_key_is_read_quoted_or_bare(header: str | None, key: str | None) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", '""', '"', '"a', "a b", "x" * 256, f'"{"x" * 256}"', "é", "a\x00"])
def test_idempotency_key_that_cannot_be_one_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        idempotency_key(header)
