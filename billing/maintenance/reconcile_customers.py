"""The last two steps of a reconciling run: find unknown customers, and compare what is known with Stripe.

A customer is compared by syncing, which corrects at once. The report names the fields that differed, without values.
"""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import structlog

from billing.errors import StaleWrite, StripeRefused
from billing.maintenance import reconcile_store
from billing.maintenance.reconcile_steps import Context, counted, save
from billing.maintenance.runs import Run
from billing.models import RunPhase
from billing.rules.ids import CUSTOMER, id_like
from billing.subscriptions.projection import Change, belongs, changed_fields
from billing.subscriptions.sync import compare_customer, sync_customer

log = structlog.get_logger(__name__)

COMPARE_AFTER = timedelta(days=1)
COMPARED_TOGETHER = 10  # between two places that are saved: what a killed run compares again
MOST_COMPARED = 200  # in a run that is not thorough; the next run continues with the others
MOST_DETAILS = 100  # customers whose differences the report keeps; the log has all
LEFT_OFF = "left_off_at"  # in the report: the customer after whom the comparing of a run begins


def list_objects(row: Run, ctx: Context) -> Run:
    """Read one page of the account's subscriptions, and compare the unknown customers among ours."""
    page = ctx.stripe.page_subscriptions(after=row.cursor)
    ours = [subscription for subscription in page.items if belongs(subscription, ctx.catalog)]
    owners = {id_ for subscription in ours if (id_ := id_like(CUSTOMER, subscription.get("customer")))}
    with ctx.database.read() as connection:
        unknown = reconcile_store.unknown_customers(connection, owners)
    row = _compare(unknown, row, ctx)
    place = {"cursor": page.items[-1]["id"]} if page.has_more else {"cursor": None, "phase": RunPhase.CUSTOMERS}
    return save(row, ctx, report=counted(row, listed=len(page.items)), **place)


def compare_some(row: Run, ctx: Context) -> Run:
    """Compare the customers who were not fetched for a day: their events may never have been made.

    By id, from where the last run left off to the end, then from the beginning. So every customer is reached, however
    often a run begins anew and whichever customers Stripe refuses (WHK-96).
    """
    assert row.started_at is not None, "a run has a beginning"
    before = row.started_at if row.thorough else row.started_at - COMPARE_AFTER
    after = compared_to(row)
    with ctx.database.read() as connection:
        chosen = reconcile_store.to_compare(connection, after=after or "", before=before, limit=COMPARED_TOGETHER)
    row = _compare(chosen, row, ctx)
    if len(chosen) == COMPARED_TOGETHER:
        if row.thorough or row.report["compared"] + row.report["failed"] < MOST_COMPARED:
            return save(row, ctx, cursor=chosen[-1], report=row.report)
        after = chosen[-1]
    elif row.report.get(LEFT_OFF):
        return save(row, ctx, cursor=None, report={**row.report, LEFT_OFF: None})
    else:
        after = None
    ended = {"phase": RunPhase.IDLE, "cursor": None, "finished_at": ctx.clock.now()}
    return save(row, ctx, report={**row.report, LEFT_OFF: after}, **ended)


def compared_to(row: Run) -> str | None:
    """The last customer that this run has compared; before its first, the last of a run that did not end."""
    place = row.cursor if row.phase is RunPhase.CUSTOMERS else None
    return place or row.report.get(LEFT_OFF)


def _compare(customer_ids: Sequence[str], row: Run, ctx: Context) -> Run:
    """Sync the customers, which compares and corrects; the report names the fields that differed, without values."""
    drift, compared, failed = list(row.report["drift"]), 0, 0
    known = {each["customer_id"] for each in drift}
    drifted = 0
    for customer_id in customer_ids:
        row = save(row, ctx)
        try:
            changes = _differences(customer_id, ctx)
        except StaleWrite:
            compared += 1  # other workers keep syncing this customer
            continue
        except StripeRefused as refused:
            failed += 1
            log.warning("customer.not_compared", customer_id=customer_id, reason=refused.sentence)
            continue
        compared += 1
        if changes:
            fields = sorted({field for change in changes for field in changed_fields(change)})
            log.warning("customer.drifted", customer_id=customer_id, fields=fields)
            if customer_id in known:  # a run that was interrupted compares some again
                continue
            drifted += 1
            known.add(customer_id)
            drift += [{"customer_id": customer_id, "fields": fields}] if len(drift) < MOST_DETAILS else []
    report = counted(row, compared=compared, drifted=drifted, failed=failed)
    return dataclasses.replace(row, report={**report, "drift": drift})


def _differences(customer_id: str, ctx: Context) -> Sequence[Change]:
    if ctx.dry:
        return compare_customer(customer_id, ctx)
    return sync_customer(customer_id, ctx, with_payment_status=ctx.catalog.access.depends_on_payment)
