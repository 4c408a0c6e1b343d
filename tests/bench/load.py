"""The load on a receiver: distinct signed deliveries, sent by wrk, or by a few processes of ours where it is absent."""

import hashlib
import json
import multiprocessing
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from billing.webhooks.signature import sign
from tests.bench.sender import PATIENCE_SECONDS, send_share
from tests.support.builders import build_event, build_subscription

SCRIPT = Path(__file__).with_name("deliveries.lua")
SECRET = "whsec_of_the_receivers"
A_BURST = 12  # events of one customer in a row, as one checkout makes them
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one load: counts, and times in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    worst: float
    refused: int  # answers that are no 2xx
    broken: int  # connections that failed, and requests that nobody answered

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def write_deliveries(folder: Path, name: str, count: int) -> Path:
    """Write `count` deliveries that no other name has, each signed now; the path for `send`."""
    path = folder / name
    now = time.time()
    with path.with_name(f"{name}.1").open("wb") as file:
        for number in range(count):
            mark = hashlib.sha256(f"{name}:{number}".encode()).hexdigest()[:24].encode()  # as scattered as Stripe's ids
            whose = hashlib.sha256(f"{name}:{number // A_BURST}".encode()).hexdigest()[:14].encode()
            each = a_body(mark, whose)
            file.write(b"%d %s\n%s" % (len(each), sign(each, SECRET, now=now).encode(), each))
    return path


def send(path: Path, port: int, *, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Send a file's deliveries, over so many connections, for so long."""
    if wrk := shutil.which("wrk"):
        return _by_wrk(wrk, path, port, seconds, connections)
    return send_each(path, port, seconds, connections)


def _by_wrk(wrk: str, path: Path, port: int, seconds: float, connections: int) -> Load:
    command = [wrk, "-t1", f"-c{connections}", f"-d{round(seconds)}s", f"--timeout={PATIENCE_SECONDS}s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}/webhooks/stripe", "--", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 2 * PATIENCE_SECONDS)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert not said["again"], "the deliveries were used up, and what came then were duplicates"
    times = {name: said[name] / 1e6 for name in ("p50", "p99", "worst")}
    return Load(said["requests"], said["microseconds"] / 1e6, refused=said["refused"], broken=said["broken"], **times)


def send_each(path: Path, port: int, seconds: float, connections: int) -> Load:
    """Send by processes of ours, each delivery once. They take more of the machine than wrk does."""
    records = read_deliveries(path)
    shares = [(records[number::connections], port, seconds) for number in range(connections)]
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(min(4, connections)) as pool:
        answers = [answer for share in pool.starmap(send_share, shares, chunksize=1) for answer in share]
    took = time.monotonic() - started
    times = sorted(elapsed for _, elapsed in answers)
    statuses = [status for status, _ in answers if status]
    return Load(
        requests=len(answers),
        seconds=took,
        p50=times[len(times) // 2],
        p99=times[round(0.99 * (len(times) - 1))],
        worst=times[-1],
        refused=sum(status >= 300 for status in statuses),
        broken=len(answers) - len(statuses),
    )


def read_deliveries(path: Path) -> list[tuple[str, bytes]]:
    """The signature and the body of each delivery of a file."""
    records = []
    with path.with_name(f"{path.name}.1").open("rb") as file:
        while line := file.readline():
            length, signature = line.decode().split()
            records.append((signature, file.read(int(length))))
    return records


def a_body(mark: bytes, whose: bytes) -> bytes:
    """An event whose ids have this mark, about this customer."""
    return _template().replace(b"EVENT", mark).replace(b"CUSTOMER", whose)


@cache
def _template() -> bytes:
    """An event of 4.3 KB, which is Stripe's mean, with as many names and values as theirs have."""
    subscription: dict[str, Any] = build_subscription("sub_EVENT", customer="cus_CUSTOMER")
    subscription["latest_invoice"] = {
        "id": "in_EVENT",
        "object": "invoice",
        "lines": [
            {"id": f"il_{number}", "amount": 900, "currency": "usd", "description": "1 x standard", "proration": False}
            | {f"field_{field}": None if field % 3 else f"a value of some length {field}" for field in range(24)}
            for number in range(3)
        ],
    }
    event = build_event(subject=subscription, id="evt_EVENT", object="event", pending_webhooks=1)
    return json.dumps(event, indent=2).encode()
