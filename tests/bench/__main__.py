"""`make bench`: the same storm over the usual way and over onelane, one after the other, and both side by side."""

import os
import platform
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.bench.storm import Answer, Client, Stripe, at_once, buy, buy_as_usual, buyers, onelane_shop, usual_shop

WINDOWS = 100
LATENCY_MS = 8.0  # what the sandbox adds to each call; the real Stripe takes some hundred milliseconds


def main() -> None:
    """Print the table and what it was measured on; the first argument is the latency in milliseconds."""
    latency_ms = float(sys.argv[1]) if len(sys.argv) > 1 else LATENCY_MS
    print(compare(WINDOWS, latency_ms / 1000))
    print(
        f"\n{os.cpu_count()} cores, Python {platform.python_version()}; the sandbox adds {latency_ms:.0f} ms to each"
        " call;\nservers, sandbox and clients share the machine."
    )


def compare(count: int, latency_seconds: float) -> str:
    """Both storms, as a table in Markdown."""
    with tempfile.TemporaryDirectory() as folder, usual_shop(Path(folder)) as (address, stripe):
        stripe.slow_down(latency_seconds)
        at_once([Client(address)], partial(buy_as_usual, user_id="somebody else"))  # both are warm
        clients = [Client(address) for _ in range(count)]
        usual = measure(stripe, lambda: at_once(clients, partial(buy_as_usual, user_id="ann")))
    with tempfile.TemporaryDirectory() as folder, onelane_shop(Path(folder)) as (dev, stripe):
        stripe.slow_down(latency_seconds)
        follow = partial(buy, shop=f"http://127.0.0.1:{dev.port}")
        at_once(buyers(dev, "somebody else", 1), follow)
        clients = buyers(dev, "ann", count)
        ours = measure(stripe, lambda: at_once(clients, follow))
    rows = [(f"{count} requests of one buyer at once", "the usual way", "onelane"), ("---", "---:", "---:")]
    rows += [(name, usual[name], ours[name]) for name in usual]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"| {name:<{widths[0]}} | {left:>{widths[1]}} | {right:>{widths[2]}} |" for name, left, right in rows]
    return "\n".join(lines)


def measure(stripe: Stripe, blow: Callable[[], list[list[Answer]]]) -> Mapping[str, str]:
    """Let a storm blow and count what it left behind."""
    before, customers = stripe.sessions(), stripe.count("customer")
    stripe.forget_calls()
    visits = blow()
    calls = stripe.calls()
    made = {id_: one for id_, one in stripe.sessions().items() if id_ not in before}
    given = [visit[-1].url for visit in visits]
    live = {one["url"] for one in made.values() if one["status"] == "open"}
    seconds = sorted(visit[-1].came_at - visit[0].sent_at for visit in visits)
    statuses = Counter(visit[0].status for visit in visits)
    return {
        "open sessions at the end": f"{len(live)}",
        "sessions created": f"{len(made)}",
        "Stripe customers created": f"{stripe.count('customer') - customers}",
        "calls to Stripe": f"{sum(call['path'].startswith('/v1/') for call in calls)}",
        "different payment pages given out": f"{len(set(given))}",
        "answers whose page is expired by the end": f"{sum(url not in live for url in given)}",
        "first answers": ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())),
        "median until the payment page": f"{statistics.median(seconds) * 1000:.0f} ms",
        "99th percentile": f"{seconds[round(0.99 * (len(seconds) - 1))] * 1000:.0f} ms",
    }


main()
