"""What the web records of a checkout: client keys, the row before the wake-up, what is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from billing.errors import IdempotencyMismatch, InvalidRequest, NotFound
from tests.support.checkout_world import World


def test_idempotency_key_gives_the_same_checkout(world: World) -> None:
    """CHK-10."""
    first, second = world.record(key="k"), world.record(key="k")
    assert (first.checkout_id, first.replayed) == (second.checkout_id, False)
    assert second.replayed is True


def test_idempotency_key_with_another_body_is_an_error(world: World) -> None:
    """CHK-10."""
    world.record(key="k")
    with pytest.raises(IdempotencyMismatch):
        world.record("commit", key="k")


def test_idempotency_key_is_per_user_and_kept_for_a_day(world: World) -> None:
    """CHK-10."""
    first = world.record(key="k")
    assert world.record(key="k", user="user_2").replayed is False
    world.clock.advance(hours=24, seconds=1)
    later = world.record("commit", key="k")
    assert (later.replayed, later.checkout_id == first.checkout_id) == (False, False)


def test_concurrent_uses_of_one_key_make_one_checkout(world: World) -> None:
    """CHK-10."""
    with ThreadPoolExecutor(8) as people:
        recorded = list(people.map(lambda _: world.record(key="k"), range(8)))
    assert len({one.checkout_id for one in recorded}) == 1
    assert [one.replayed for one in recorded].count(False) == 1


def test_checkout_is_in_the_ledger_before_a_worker_is_woken(world: World) -> None:
    """CHK-13: the queue, asked at the moment of the send, already finds the row."""
    seen: list[bool] = []
    send = world.queue.send

    def look(job, *, delay_seconds: float = 0) -> None:  # type: ignore[no-untyped-def]
        with world.database.read() as connection:
            seen.append(connection.exec_driver_sql("SELECT count(*) FROM checkouts").scalar() == 1)
        send(job)

    world.queue.send = look  # type: ignore[method-assign]
    world.ask()
    assert seen == [True]


def test_another_user_cannot_read_a_checkout(world: World) -> None:
    view = world.served()
    with pytest.raises(NotFound):
        world.view(view.id, user="user_2")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"plan": "gold"}, "/plan"),
        ({"quantity": 0}, "/quantity"),
        ({"quantity": 2}, "/quantity"),
        ({"success_url": "https://evil.example/"}, "/success_url"),
        ({"cancel_url": "javascript:alert(1)"}, "/cancel_url"),
        ({"metadata": {"type": "x"}}, "/metadata/type"),
        ({"metadata": {"nonce": "x"}}, "/metadata/nonce"),
        ({"metadata": {"onelane_x": "x"}}, "/metadata/onelane_x"),
        ({"metadata": {"a/b~": ""}}, "/metadata/a~1b~0"),
        ({"metadata": {f"k{n}": "v" for n in range(21)}}, "/metadata"),
    ],
)
def test_bad_request_is_refused_and_records_nothing(world: World, body: dict[str, object], pointer: str) -> None:
    """CHK-12, CHK-9."""
    with pytest.raises(InvalidRequest) as refusal:
        world.record(**{"plan": "standard", **body})  # type: ignore[arg-type]
    assert [one["pointer"] for one in refusal.value.errors] == [pointer]
    assert world.queue.sent == []
    with world.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM checkouts").scalar() == 0
