"""`make bench`: one storm over the usual way and over onelane, what a checkout costs, and a hot buyer among others.

Everything is measured in one run on this machine, one thing after the other; it ends by itself in about two minutes.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.bench import console, drain, receiver
from tests.bench.costs import PRODUCTION, UNLIMITED, Cost, be_far, know, our_costs, percentile, usual_costs
from tests.bench.crowd import Phase, run_phase
from tests.bench.shares import SETTINGS, measure_shares
from tests.bench.storm import (
    Answer,
    Client,
    Stripe,
    at_once,
    buy,
    buy_as_usual,
    buyers,
    onelane_shop,
    order,
    token,
    usual_shop,
)
from tests.support.running_dev import Dev, end_in_order, onelane

WINDOWS = 100
LATENCY_MS = 8.0  # what the sandbox adds to each call in the storm; the real Stripe takes some hundred milliseconds
FAR_MS = 100.0  # what a call takes in all for the other tables
VISITS = 40
HOT, OTHERS, EVERY_SECONDS = 1000, 100, 0.05


def main() -> None:
    """Print the tables and what they were measured on; the first argument is the storm's latency in milliseconds."""
    started = time.monotonic()
    latency_ms = float(sys.argv[1]) if len(sys.argv) > 1 else LATENCY_MS
    with tempfile.TemporaryDirectory() as folder, usual_shop(Path(folder)) as (address, stripe):
        stripe.slow_down(latency_ms / 1000)
        at_once([Client(address)], partial(buy_as_usual, user_id="somebody else"))  # both are warm
        clients = [Client(address) for _ in range(WINDOWS)]
        usual = measure(stripe, lambda: at_once(clients, partial(buy_as_usual, user_id="ann")))
        be_far(stripe, FAR_MS / 1000)
        usual_cost = usual_costs(address, stripe, Path(folder), VISITS)
    with tempfile.TemporaryDirectory() as folder, onelane_shop(Path(folder), **UNLIMITED) as (dev, stripe):
        stripe.slow_down(latency_ms / 1000)
        follow = partial(buy, shop=f"http://127.0.0.1:{dev.port}")
        at_once(buyers(dev, "somebody else", 1), follow)
        clients = buyers(dev, "ann", WINDOWS)
        ours = measure(stripe, lambda: at_once(clients, follow))
        trip = be_far(stripe, FAR_MS / 1000)
        our_cost = our_costs(dev, stripe, VISITS)
    with tempfile.TemporaryDirectory() as folder, onelane_shop(Path(folder), **PRODUCTION) as (dev, stripe):
        calm, windy = hot_buyer(dev, stripe)
        calls = [f"{call['method']} {call['path']}" for call in stripe.calls()]
    with tempfile.TemporaryDirectory() as folder, onelane_shop(Path(folder), **SETTINGS) as (dev, stripe):
        shares = measure_shares(dev, stripe, FAR_MS / 1000)
    head = (f"{WINDOWS} requests of one buyer at once", "the usual way", "onelane")
    print(table([head, *((name, usual[name], ours[name]) for name in usual)]))
    print(f"\nThe sandbox adds {latency_ms:.0f} ms to each call here. From here on, a call takes {FAR_MS:.0f} ms.\n")
    print(table(cost_rows(usual_cost, our_cost, trip)))
    print(f"\nOne round trip: {trip * 1000:.0f} ms. {VISITS} buyers known to Stripe, one at a time.\n")
    print(table(hot_rows(calm, windy)))
    print(f"\n{OTHERS} other buyers, one every {EVERY_SECONDS * 1000:.0f} ms. {of_the_storm(windy, calls)}")
    print(f"\n{shares.sentence}")
    print(
        f"\n{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f};"
        f" servers, sandbox and clients share the machine. {time.monotonic() - started:.0f} s."
    )


def hot_buyer(dev: Dev, stripe: Stripe) -> tuple[Phase, Phase]:
    """The other buyers without the storm, and as many others with it."""
    calm, windy = ([f"{name}-{number}" for number in range(OTHERS)] for name in ("calm", "windy"))
    stripe.slow_down(0)
    know(dev, stripe, [*calm, *windy, "hot"])
    # New customers are compared with Stripe every three minutes: now, and not while we count calls.
    reconciled = onelane("reconcile", folder=dev.folder)
    assert reconciled.returncode == 0, reconciled.stderr
    be_far(stripe, FAR_MS / 1000)
    ask = partial(run_phase, dev.port, order(f"http://127.0.0.1:{dev.port}"), every_seconds=EVERY_SECONDS)
    without = ask(others=[token(dev, one) for one in calm])
    stripe.forget_calls()
    return without, ask(others=[token(dev, one) for one in windy], hot=token(dev, "hot"), storm=HOT)


def of_the_storm(windy: Phase, calls: Sequence[str]) -> str:
    """What the storm was answered, and what it all cost."""
    answers = Counter(visit.status for visit in windy.storm)
    pages = {visit.body["url"] for visit in windy.storm if visit.body.get("url")}
    return (
        f"The storm: {HOT} requests of one buyer at once, of whom\n{PRODUCTION['RATE_LIMIT_CHECKOUTS']} are allowed,"
        f" all answered in {windy.storm_seconds:.2f} s"
        f" ({', '.join(f'{count} x {status}' for status, count in sorted(answers.items()))}) with {len(pages)} page;"
        f" {len(calls)} calls to Stripe for all {OTHERS + 1} buyers,\nof them"
        f" {calls.count('POST /v1/checkout/sessions')} creations."
    )


def cost_rows(usual: tuple[Cost, Cost], ours: tuple[Cost, Cost], trip: float) -> list[tuple[str, ...]]:
    """Calls and times of one checkout."""
    rows: list[tuple[str, ...]] = [
        ("one checkout", "reads", "writes", "in a row", "p50", "p99", "beyond the round trips")
    ]
    named = zip(
        ("fresh, the usual way", "again, the usual way", "fresh, onelane", "again, onelane"), usual + ours, strict=True
    )
    for name, cost in named:
        trips = round(statistics.median(cost.round_trips))
        p50 = statistics.median(cost.seconds)
        beyond = f"{(p50 - trips * FAR_MS / 1000) * 1000:.0f} ms ({p50 / trip:.2f} x one)"
        figures = [f"{max(cost.reads)}", f"{max(cost.writes)}", f"{max(cost.round_trips)}"]
        rows.append((name, *figures, milliseconds(p50), milliseconds(percentile(cost.seconds, 0.99)), beyond))
    return rows


def hot_rows(calm: Phase, windy: Phase) -> list[tuple[str, ...]]:
    """The other buyers' times."""
    rows: list[tuple[str, ...]] = [("other buyers, until the payment page", "without the storm", "with it", "ratio")]
    for name, share in (("median", 0.5), ("99th percentile", 0.99), ("slowest", 1.0)):
        before, after = (percentile([one.seconds for one in phase.others], share) for phase in (calm, windy))
        rows.append((name, milliseconds(before), milliseconds(after), f"{after / before:.2f}"))
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table in Markdown, the first being its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    marks = ["---", *("---:" for _ in widths[1:])]
    widths = [max(pair) for pair in zip(widths, map(len, marks), strict=True)]
    lines = []
    for row in (rows[0], marks, *rows[1:]):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


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


if __name__ == "__main__":  # the storm's own process imports this file, too
    end_in_order()
    match sys.argv[1:]:
        case ["drain", *_]:  # make bench ARGS="drain 200 0,100000"
            del sys.argv[1]
            drain.main()
        case ["receiver", *rest]:  # make bench ARGS="receiver 4 compare"
            receiver.main(rest)
        case ["console", *counts]:  # make bench ARGS="console 1000000 100000"
            console.main(*map(int, counts))
        case _:
            main()
            print("More: make bench ARGS=receiver (deliveries), ARGS=drain (bursts), ARGS=console (pages).")
