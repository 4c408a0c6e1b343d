"""Who is there, and whether Stripe's deliveries arrive: what the ledger says of the running installation."""

from collections.abc import Iterator, Sequence

from billing.clock import Clock
from billing.coordination.jobs import QUEUES
from billing.database import Database
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.operators.deliveries import are_refused, read_deliveries
from billing.operators.presence import Process, list_processes
from billing.operators.worst import NEED, NO_BEAT
from billing.rules.words import in_number, in_short


def examine_processes(database: Database) -> Iterator[Finding]:
    """Whether each queue has a worker, and beat runs. Raises LedgerUnavailable."""
    with database.read() as connection:
        there = [process for process in list_processes(connection) if process.is_there]
    workers = [process for process in there if process.kind == "worker"]
    taken = {queue for process in workers for queue in process.queues}
    for queue in QUEUES:
        if queue not in taken:
            sentence = f"No worker takes the queue {queue}: {NEED[queue]}. Start `onelane worker --queues {queue}`."
            yield warning("workers", sentence)
    if taken >= set(QUEUES):
        threads = sum(process.threads for process in workers)
        has = in_number(len(workers), "worker")
        yield fine("workers", f"{has} with {in_number(threads, 'thread')} for every queue.")
    versions = sorted({process.version for process in there})
    if len(versions) > 1:
        names = (f"{one} ({', '.join(_where(there, one))})" for one in versions)
        sentence = f"Processes of several versions are there: {'; '.join(names)}. After a rollout, restart the older."
        yield warning("workers", sentence)
    beats = [process for process in there if process.kind == "beat"]
    if beats:
        yield fine("beat", f"Runs, and was seen {beats[0].age_seconds:.0f} s ago.")
    else:
        yield warning("beat", f"{NO_BEAT} Start `onelane beat`.")


def _where(there: Sequence[Process], version: str) -> Iterator[str]:
    """`web on host`, of each of this version."""
    for process in there:
        if process.version == version:
            yield f"{process.name} on {process.host}"


def examine_deliveries(database: Database, *, clock: Clock) -> Iterator[Finding]:
    """When the last signed delivery came, and the last one whose signature is not ours. Raises LedgerUnavailable."""
    with database.read() as connection:
        seen = read_deliveries(connection)
    now, signed_at = clock.now(), seen.last_signed_at
    last = f"the last signed one came {in_short(now - signed_at)} ago" if signed_at else "no signed one has come yet"
    if seen.last_refused_at is None:
        yield fine("deliveries", f"None was refused for its signature; {last}.")
        return
    refused = f"{in_number(seen.refused, 'was', 'were')} refused, the last {in_short(now - seen.last_refused_at)} ago"
    if are_refused(seen, now=now):
        yield wrong(
            "deliveries",
            f"{refused}, and {last}: {seen.why} Put the signing secret that Stripe shows for the endpoint (Dashboard,"
            " Webhooks) beside those in STRIPE_WEBHOOK_SECRETS, and restart the webs. Stripe sends them again.",
        )
    else:
        yield fine("deliveries", f"{refused}; {last}.")
