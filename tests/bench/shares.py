"""Sixteen accounts that change their mind as often as they may, and buyers who come for the first time.

All of production's limits hold: 30 checkouts a minute for each account, 20 calls a second to Stripe for each process.
Each of the sixteen asks for the other plan every two seconds, whose old page has to be expired first.
"""

import asyncio
import statistics
from contextlib import suppress
from dataclasses import dataclass

from tests.bench.costs import PRODUCTION, be_far, know
from tests.bench.crowd import Window
from tests.bench.storm import Stripe, order, token
from tests.support.running_dev import Dev, onelane

ACCOUNTS, EVERY_SECONDS = 16, 2.0
WARM_SECONDS = 20.0  # until each of them has used more than a first checkout takes
FIRST, APART_SECONDS = 12, 1.0
PLANS = ("standard", "commit")
# `make dev` asks its own sandbox a thousand times a second, unless it is told otherwise.
SETTINGS = {**PRODUCTION, "STRIPE_MAX_PER_SECOND": "20"}


@dataclass(frozen=True, slots=True)
class Shares:
    """Seconds until the payment page of each first checkout, without the sixteen and beside them."""

    alone: list[float]
    beside: list[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.beside) / statistics.median(self.alone)

    @property
    def sentence(self) -> str:
        """What was measured."""
        alone, beside = (1000 * statistics.median(seconds) for seconds in (self.alone, self.beside))
        return (
            f"A first checkout beside {ACCOUNTS} accounts, each of which asks for the other plan every"
            f" {EVERY_SECONDS:.0f} s: {beside:.0f} ms, alone {alone:.0f} ms (medians; {self.ratio:.2f} times)."
        )


def measure_shares(dev: Dev, stripe: Stripe, latency_seconds: float) -> Shares:
    """First checkouts, one after the other; without and with the sixteen."""
    alone, beside = ([f"{name}-{number}" for number in range(FIRST)] for name in ("alone", "beside"))
    accounts = [f"account-{number}" for number in range(ACCOUNTS)]
    stripe.slow_down(0)
    know(dev, stripe, [*alone, *beside, *accounts])
    assert onelane("reconcile", folder=dev.folder).returncode == 0  # new customers are compared now, and not meanwhile
    be_far(stripe, latency_seconds)
    return asyncio.run(_measure(dev, alone, beside, accounts))


async def _measure(dev: Dev, alone: list[str], beside: list[str], accounts: list[str]) -> Shares:
    without = await _first(dev, alone)
    restless = [asyncio.create_task(_change_mind(dev, user_id, number)) for number, user_id in enumerate(accounts)]
    await asyncio.sleep(WARM_SECONDS)
    shares = Shares(without, await _first(dev, beside))
    for task in restless:
        assert not task.done(), task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return shares


async def _first(dev: Dev, users: list[str]) -> list[float]:
    seconds = []
    for user_id in users:
        window = await Window(dev.port, token(dev, user_id)).open()
        visit = await window.buy(order(f"http://127.0.0.1:{dev.port}"))
        assert visit.body.get("url"), visit
        seconds.append(visit.seconds)
        await window.close()
        await asyncio.sleep(APART_SECONDS)
    return seconds


async def _change_mind(dev: Dev, user_id: str, number: int) -> None:
    await asyncio.sleep(EVERY_SECONDS * number / ACCOUNTS)
    window = await Window(dev.port, token(dev, user_id)).open()
    shop, turn = f"http://127.0.0.1:{dev.port}", 0
    while True:
        await window.ask("POST", "/v1/checkouts", order(shop, PLANS[turn % 2]), prefer="wait=0")
        turn += 1
        await asyncio.sleep(EVERY_SECONDS)
