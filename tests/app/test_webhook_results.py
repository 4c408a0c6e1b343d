"""Results of other threads' futures on the event loop."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from app.webhooks import Results

SECONDS = 20


async def wait_for_all(results: Results, futures: "list[Future[int]]") -> list[int]:
    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(*map(results.of, futures))


def test_results_that_come_together_wake_the_loop_once():
    """WHK-90: as one commit resolves them, while the loop is busy."""
    results, futures, woken = Results(), [Future[int]() for _ in range(100)], []

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(wait_for_all(results, futures))
        for _ in range(3):
            await asyncio.sleep(0)  # all of them wait
        wake, loop.call_soon_threadsafe = loop.call_soon_threadsafe, lambda *given: woken.append(wake(*given))
        committing = threading.Thread(target=lambda: [each.set_result(n) for n, each in enumerate(futures)])
        committing.start()
        committing.join()  # the loop is kept from running meanwhile
        return await waiting

    assert asyncio.run(main()) == list(range(100))
    assert len(woken) == 1


def test_none_is_forgotten_while_threads_and_the_loop_resolve_at_once():
    """LED-13."""
    results, futures = Results(), [Future[int]() for _ in range(6_000)]

    async def main() -> list[int]:
        shares = [futures[number::3] for number in range(3)]
        others = [threading.Thread(target=lambda mine=mine: [one.set_result(1) for one in mine]) for mine in shares]
        for thread in others:
            thread.start()
        found = await wait_for_all(results, futures)
        for thread in others:
            thread.join(SECONDS)
        return found

    assert sum(asyncio.run(main())) == 6_000


def test_error_is_raised_where_it_is_awaited():
    future: Future[int] = Future()
    future.set_exception(LookupError("none"))
    with pytest.raises(LookupError):
        asyncio.run(wait_for_all(Results(), [future]))


def test_who_stops_waiting_takes_back_what_has_not_begun():
    """LED-13: its client is gone before the commit took it up; what runs is let be."""
    idle, running = Future[int](), Future[int]()
    running.set_running_or_notify_cancel()

    async def main(results: Results, future: "Future[int]") -> None:
        waiting = asyncio.ensure_future(results.of(future))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main(Results(), idle))
    asyncio.run(main(Results(), running))
    assert idle.cancelled()
    assert not running.cancelled()
