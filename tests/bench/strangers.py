"""The slowest answer to each kind of forged or broken delivery: python -m tests.bench.strangers [TIMES]

Over the real server with a ledger in SQLite, one request at a time on a connection of its own: what is measured is
what a stranger can make one thread do. Every answer's status is checked, and that nothing was recorded.
"""

import http.client
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.load import SECRET
from tests.bench.serving import SQLITE, Server, receiver
from tests.support.strangers import KINDS, Kind

TIMES = 20
TARGET_SECONDS = 0.05


def main(times: int) -> None:
    """Print a line for each kind, the slowest first."""
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory() as folder, receiver(SQLITE, Path(folder)) as server:
        for _ in range(times):
            for name, kind in KINDS.items():
                status, seconds = ask(server, kind)
                assert status == kind.status, f"{name}: {status}"
                found[name].append(seconds)
        assert server.rows() == 0, "something was recorded"
        memory = server.memory_bytes()
    print("| kind | slowest | median |\n| --- | ---: | ---: |")
    for name, seconds in sorted(found.items(), key=lambda each: -max(each[1])):
        print(f"| {name} | {max(seconds) * 1000:.1f} ms | {statistics.median(seconds) * 1000:.1f} ms |")
    slow = [name for name, seconds in found.items() if max(seconds) >= TARGET_SECONDS]
    print(f"\n{len(KINDS)} kinds, {times} times each; {len(slow)} ever took {TARGET_SECONDS * 1000:.0f} ms or more.")
    print(f"Web process: {memory / 2**20:.0f} MiB. {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end.")


def ask(server: Server, kind: Kind) -> tuple[int, float]:
    """The status, and the seconds from the first byte that was sent to the last one that came."""
    header = kind.header(kind.body, SECRET, time.time())
    head = f"POST /webhooks/stripe HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(kind.body)}\r\n"
    head += "" if header is None else f"Stripe-Signature: {header}\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.connect()
        sent = head.encode("latin-1") + b"\r\n" + kind.body
        started = time.perf_counter()
        with suppress(OSError):  # it was answered before all of it had been sent
            connection.sock.sendall(sent)
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        answer.read()
        return answer.status, time.perf_counter() - started
    finally:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TIMES)
