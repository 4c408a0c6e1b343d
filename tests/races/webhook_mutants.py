"""The shortcuts of the webhook protocol, as switchable changes of the real code, each with the test that it dies of."""

import json
import threading
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from billing.maintenance import reconcile, sweep
from billing.models import EventStatus, events
from billing.subscriptions import projection_store
from billing.webhooks import ingest, process
from tests.races.mutants import Mutant, Patch, rewrite

INGEST, PROCESS, SWEEP, RECONCILE = (
    f"tests/billing/{name}.py"
    for name in (
        "webhooks/test_ingest",
        "webhooks/test_process",
        "maintenance/test_sweep",
        "maintenance/test_reconcile",
    )
)


def apply_the_payload(patch: Patch) -> None:
    """What the events say is taken for what is."""
    real = process.sync_customer

    class Told:
        def __init__(self, stripe: Any, told: list[Any]) -> None:
            self._stripe, self._told = stripe, told

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stripe, name)

        def list_subscriptions(self, _customer_id: str) -> list[Any]:
            return self._told

    def sync_customer(customer_id: str, *, database: Any, stripe: Any, **rest: Any) -> Any:
        own = sa.select(events.c.payload).where(events.c.customer_id == customer_id).order_by(events.c.id)
        with database.read() as connection:
            objects = [json.loads(payload)["data"]["object"] for payload in connection.scalars(own)]
        told = {one["id"]: one for one in objects if one["object"] == "subscription"}
        return real(customer_id, database=database, stripe=Told(stripe, list(told.values())), **rest)  # type: ignore[arg-type]

    patch.setattr(process, "sync_customer", sync_customer)


def no_generation(patch: Patch) -> None:
    """Whoever comes last writes, whatever was written since they fetched."""
    real = projection_store.advance
    patch.setattr(projection_store, "advance", lambda *at, **values: real(*at, **values) or True)


def dedupe_before_commit(patch: Patch) -> None:
    """An id is remembered elsewhere (in Redis, say) before its event is in the ledger."""
    real, seen = ingest.receive, set()

    def receive(body: bytes, header: Any, **rest: Any) -> Any:
        with suppress(ValueError):
            id_ = json.loads(body)["id"]
            if id_ in seen:
                return "duplicate"
            seen.add(id_)
        return real(body, header, **rest)

    patch.setattr(ingest, "receive", receive)


def acknowledge_before_commit(patch: Patch) -> None:
    """The answer does not wait for the transaction."""
    real = ingest.GroupCommit.record

    def later(*arguments: Any) -> None:
        with suppress(Exception):
            real(*arguments)

    def record(*arguments: Any) -> Any:
        threading.Thread(target=later, args=arguments).start()
        return 1, EventStatus.PENDING

    patch.setattr(ingest.GroupCommit, "record", record)


WEBHOOK_MUTANTS = {
    "apply_the_payload": Mutant(
        "apply the payload",
        apply_the_payload,
        test=f"{PROCESS}::test_projection_is_what_stripe_says_and_not_what_the_event_says",
    ),
    "no_generation": Mutant(
        "fetch then write without the generation",
        no_generation,
        test=f"{PROCESS}::test_old_fetch_does_not_overwrite_a_newer_one",
    ),
    "done_first": Mutant(
        "mark done before the projection commits",
        rewrite(
            process,
            "_work",
            (
                "    sync_customer(",
                "    with database.write() as connection:\n        close(connection)\n    sync_customer(",
            ),
            ("then=close,", ""),
        ),
        test=f"{PROCESS}::test_events_stay_open_when_their_projection_is_not_written",
    ),
    "dedupe_first": Mutant(
        "dedupe in Redis before the ledger commit",
        dedupe_before_commit,
        test=f"{INGEST}::test_failed_commit_is_no_answer_and_no_wake_up",
    ),
    "no_sweep": Mutant(
        "no sweep",
        rewrite(sweep, "sweep", ("for row_id in events:", "for row_id in events[:0]:")),
        test=f"{SWEEP}::test_event_whose_wake_up_was_lost_is_found",
    ),
    "no_reconcile": Mutant(
        "no reconcile",
        rewrite(reconcile, "reconcile", ("    if when_due:", "    return None\n    if when_due:")),
        test=f"{RECONCILE}::test_nothing_was_delivered_at_all",
    ),
    "acknowledge_first": Mutant(
        "acknowledge before the commit",
        acknowledge_before_commit,
        test=f"{INGEST}::test_failed_commit_is_no_answer_and_no_wake_up",
    ),
}
