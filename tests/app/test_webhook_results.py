"""Rows of deliveries on the event loop, as one thread commits them."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from app import webhooks
from app.webhooks import Results
from billing.errors import LedgerUnavailable
from billing.models import EventStatus
from billing.webhooks.group_commit import Outcomes, Pending, Row

SECONDS = 20


def batches(count: int, size: int) -> list[list[Pending]]:
    """So many batches, each with so many places."""
    futures = [Future[Outcomes]() for _ in range(count)]
    return [[Pending(future, number) for number in range(size)] for future in futures]


def rows(size: int) -> list[Row]:
    return [(number, EventStatus.PENDING) for number in range(size)]


async def wait_for_all(results: Results, places: Sequence[Pending]) -> list[Row]:
    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(*map(results.of, places))


def test_batch_wakes_the_loop_once_and_each_has_its_own_row() -> None:
    """WHK-90, WHK-91: as one commit resolves it, while the loop is busy."""
    [places], woken = batches(1, 100), []

    async def main() -> list[Row]:
        loop = asyncio.get_running_loop()
        wake, loop.call_soon_threadsafe = loop.call_soon_threadsafe, lambda *given: woken.append(wake(*given))  # type: ignore[method-assign, assignment, func-returns-value]
        waiting = asyncio.ensure_future(wait_for_all(Results(), places))
        for _ in range(3):
            await asyncio.sleep(0)  # all of them wait
        committing = threading.Thread(target=places[0].batch.set_result, args=(rows(100),))
        committing.start()
        committing.join()  # the loop is kept from running meanwhile
        return await waiting

    assert asyncio.run(main()) == rows(100)
    assert len(woken) == 1


def test_none_is_forgotten_while_a_thread_and_the_loop_resolve_at_once() -> None:
    """LED-13: those that begin to wait after their batch was committed, too."""
    there, results = batches(600, 10), Results()

    async def main() -> list[Row]:
        committing = threading.Thread(target=lambda: [each[0].batch.set_result(rows(10)) for each in there])
        committing.start()
        found = await wait_for_all(results, [pending for each in there for pending in each])
        committing.join(SECONDS)
        return found

    assert asyncio.run(main()) == rows(10) * 600
    assert (results._waiting, results._timers) == ({}, {})


def test_error_is_raised_where_it_is_awaited() -> None:
    """WHK-92"""
    [[good, bad]] = batches(1, 2)
    good.batch.set_result([None, LookupError("none")])
    assert asyncio.run(wait_for_all(Results(), [good])) == [None]
    with pytest.raises(LookupError):
        asyncio.run(wait_for_all(Results(), [bad]))


def test_who_stops_waiting_leaves_the_others_of_the_batch() -> None:
    """LED-50: its client is gone."""
    [[gone, other]] = batches(1, 2)

    async def main(results: Results) -> Row:
        leaving, waiting = (asyncio.ensure_future(results.of(pending)) for pending in (gone, other))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gone.batch.set_result(rows(2))
        return await waiting

    assert asyncio.run(main(Results())) == (1, EventStatus.PENDING)


def test_each_waits_its_own_time_however_long_its_batch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """LED-61: the first one's time is over, and the second one, of the same batch, is told its row. Then a third."""
    monkeypatch.setattr(webhooks, "WAIT_SECONDS", 0.2)
    [[first, second, third]] = batches(1, 3)

    async def main(results: Results) -> Row:
        early = asyncio.ensure_future(results.of(first))
        await asyncio.sleep(0)
        monkeypatch.setattr(webhooks, "WAIT_SECONDS", 600)
        late = asyncio.ensure_future(results.of(second))
        with pytest.raises(LedgerUnavailable):
            await early
        assert not late.done()
        first.batch.set_result(rows(3))
        assert await results.of(third) == rows(3)[2]
        async with asyncio.timeout(SECONDS):
            return await late

    results = Results()
    assert asyncio.run(main(results)) == rows(3)[1]
    assert (results._waiting, results._timers) == ({}, {})
