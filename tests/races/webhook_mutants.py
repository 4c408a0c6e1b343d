"""The shortcuts of the webhook protocol, as switchable changes of the real code, each with the test that it dies of."""

import dataclasses
import json
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from billing.maintenance import reconcile
from billing.models import EventStatus, events
from billing.subscriptions import projection_store
from billing.subscriptions.sync import sync_customer
from billing.webhooks import claim
from billing.webhooks.group_commit import GroupCommit, Outcomes, Pending, Row
from billing.webhooks.ingest import Ingest
from tests.races.mutant import Mutant, always, in_any_case
from tests.races.operation_mutants import end_before_projection

INGEST, PROCESS, SWEEP, RECONCILE = (
    f"tests/billing/{name}.py"
    for name in (
        "webhooks/test_ingest",
        "webhooks/test_process",
        "maintenance/test_sweep",
        "maintenance/test_reconcile",
    )
)


class PayloadStripe:
    """A gateway that answers with what the events say."""

    def __init__(self, stripe: Any, told: list[Any]) -> None:
        self._stripe, self._told = stripe, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stripe, name)

    def list_subscriptions(self, _customer_id: str) -> list[Any]:
        return self._told


def apply_the_payload(real: Any, customer_id: str, ctx: Any, **rest: Any) -> Any:
    """What the events say is taken for what is."""
    own = sa.select(events.c.payload).where(events.c.customer_id == customer_id).order_by(events.c.id)
    with ctx.database.read() as connection:
        objects = [json.loads(payload)["data"]["object"] for payload in connection.scalars(own)]
    told = {one["id"]: one for one in objects if one["object"] == "subscription"}
    stripe = PayloadStripe(ctx.stripe, list(told.values()))
    return real(customer_id, dataclasses.replace(ctx, stripe=stripe), **rest)


_remembered: set[str] = set()


def dedupe_before_commit(real: Any, ingest: Ingest, body: bytes, signature: Any, **rest: Any) -> Pending:
    """An id is remembered elsewhere (in Redis, say) before its event is in the ledger."""
    with suppress(ValueError):
        id_ = json.loads(body)["id"]
        if id_ in _remembered:
            return _resolved(None)
        _remembered.add(id_)
    pending: Pending = real(ingest, body, signature, **rest)
    return pending


def acknowledge_before_commit(real: Any, *arguments: Any) -> Pending:
    """The answer does not wait for the transaction."""
    real(*arguments)
    return _resolved((1, EventStatus.PENDING))


def _resolved(row: Row) -> Pending:
    batch: Future[Outcomes] = Future()
    batch.set_result([row])
    return Pending(batch, 0)


WEBHOOK_MUTANTS = {
    "apply_the_payload": Mutant(
        "apply the payload",
        {sync_customer: apply_the_payload},
        test=f"{PROCESS}::test_projection_is_what_stripe_says_and_not_what_the_event_says",
    ),
    "no_generation": Mutant(
        "fetch then write without the generation",
        {projection_store.advance: in_any_case},
        test=f"{PROCESS}::test_old_fetch_does_not_overwrite_a_newer_one",
    ),
    "done_first": Mutant(
        "mark done before the projection commits",
        {sync_customer: end_before_projection},
        test=f"{PROCESS}::test_events_stay_open_when_their_projection_is_not_written",
    ),
    "dedupe_first": Mutant(
        "dedupe in Redis before the ledger commit",
        {Ingest.submit: dedupe_before_commit},
        test=f"{INGEST}::test_failed_commit_is_no_answer_and_no_wake_up",
    ),
    "no_sweep": Mutant(
        "no sweep",
        {claim.any_due: always(False)},
        test=f"{SWEEP}::test_event_whose_wake_up_was_lost_is_found",
    ),
    "no_reconcile": Mutant(
        "no reconcile",
        {reconcile.reconcile: always(None)},
        test=f"{RECONCILE}::test_nothing_was_delivered_at_all",
    ),
    "acknowledge_first": Mutant(
        "acknowledge before the commit",
        {GroupCommit.submit: acknowledge_before_commit},
        test=f"{INGEST}::test_failed_commit_is_no_answer_and_no_wake_up",
    ),
}
