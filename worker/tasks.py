"""The tasks: one function per job kind, which calls its flow.

What may go wrong with a flow is handled once, for all of them, in `worker/task_base.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery

from billing.checkout.context import Context
from billing.checkout.work import work_lane
from billing.clock import time_is_up
from billing.coordination.jobs import (
    Examine,
    Job,
    Notify,
    Prune,
    Reconcile,
    RemedyDuplicates,
    ReplayEvents,
    RowJob,
    Sweep,
    SyncCustomers,
    WorkEvents,
    WorkLane,
    WorkOperations,
)
from billing.doctor.examinations import answer
from billing.duplicates import remedy
from billing.duplicates.context import Context as RemedyContext
from billing.maintenance import reconcile_steps
from billing.maintenance.prune import prune
from billing.maintenance.reconcile import begin_with_everybody, reconcile
from billing.maintenance.replay_run import work_run
from billing.maintenance.sweep import sweep
from billing.notifications.deliver import notify
from billing.operations.work import work_operations
from billing.services import Services, places
from billing.stripe_gateway.pace import for_lane
from billing.subscriptions import take_over
from billing.webhooks import process
from worker.lane_shares import BACK_SECONDS, LaneShares
from worker.task_base import JobTask

# 15 s: a thread of a worker that is told to end is waited for no longer than 20 s; the rest is another message's.
SLICE_SECONDS = 15
EVENTS_SECONDS = 2  # so long sweeps, notifications and a stop wait for a thread that works events
FAILED = "failed"  # the job's outcome where its flow has noted a failure, and nothing was raised

Work = Callable[[Any, Services], str | None]


def register(celery: Celery, services: Callable[[], Services], *, threads: int) -> None:
    """Tell the application its tasks: these, and no others, are what a message may name."""
    for job, work in works(threads).items():
        # An application that hangs while it is told of changes keeps one thread, not all.
        celery.register_task(JobTask(job, partial(_take, work), services, alone=job in (Sweep, Notify)))


def works(threads: int) -> dict[type[Job], Work]:
    """What each kind of job asks for; it gives its outcome, where that is not `done`. Lanes share the threads."""
    lanes = LaneShares(threads)
    return {
        WorkLane: partial(_of_a_lane, lanes, work_lane),
        WorkOperations: partial(_of_a_lane, lanes, work_operations),
        WorkEvents: events_work,
        SyncCustomers: customers_sync,
        RemedyDuplicates: duplicates_remedy,
        ReplayEvents: events_replay,
        Examine: doctor_examine,
        Reconcile: ledger_reconcile,
        Prune: ledger_prune,
        Sweep: ledger_sweep,
        Notify: outbox_notify,
    }


def _take(work: Work, job: Job, services: Services) -> str | None:
    """Say that the job was taken before anything is read: what comes later is sent anew."""
    services.queue.taken(job)
    return work(job, services)


def _of_a_lane(lanes: LaneShares, work: Callable[[int, Context], bool], job: RowJob, services: Services) -> str | None:
    """Bring a lane to rest (LAN), or finish what its buyer asked to be changed (SUB-30)."""
    with lanes.place(job.row_id) as has_place, for_lane(job.row_id):
        if not has_place:
            services.queue.send(job, delay_seconds=BACK_SECONDS)
            return None
        ctx = Context(
            **places(services),
            locks=services.locks,
            wakeups=services.wakeups,
            reuse_seconds=services.settings.checkout_reuse_seconds,
        )
        return None if work(job.row_id, ctx) else FAILED


def events_work(_job: WorkEvents, services: Services) -> str | None:
    """Work customers whose events are due (WHK)."""
    ctx = process.Context(
        **places(services, in_background=True),
        compare_everybody=partial(begin_with_everybody, clock=services.clock),
    )
    return None if process.work_events(ctx, stop=time_is_up(EVENTS_SECONDS)) else FAILED


def customers_sync(_job: SyncCustomers, services: Services) -> str | None:
    """Fetch customers that were taken over (SUB-70)."""
    ctx = take_over.Context(**places(services, in_background=True), wakeups=services.wakeups)
    return None if take_over.sync_taken_over(ctx, stop=time_is_up(EVENTS_SECONDS)) else FAILED


def duplicates_remedy(job: RemedyDuplicates, services: Services) -> str | None:
    """Do what DUPLICATE_POLICY says about an incident (SUB-16)."""
    ctx = RemedyContext(
        **places(services, in_background=True),
        locks=services.locks,
        cancels=services.settings.duplicate_policy == "cancel_newest",
    )
    return None if remedy.remedy_duplicates(job.row_id, ctx) else FAILED


def events_replay(job: ReplayEvents, services: Services) -> None:
    """Go on with a replay that an operator asked for (LED-70)."""
    work_run(job.row_id, database=services.database, queue=services.queue, clock=services.clock)


def doctor_examine(job: Examine, services: Services) -> None:
    """Look at the installation for somebody in the console (CON-14)."""
    answer(job.row_id, services)


def ledger_reconcile(job: Reconcile, services: Services) -> None:
    """Find what Stripe never delivered, if it is time (WHK-42)."""
    ctx = reconcile_steps.Context(**places(services, in_background=True), locks=services.locks, dry=False)
    row = reconcile(ctx, when_due=True, stop=time_is_up(SLICE_SECONDS))
    if row is not None and row.unfinished:
        services.queue.send(job, delay_seconds=1)


def ledger_prune(job: Prune, services: Services) -> None:
    """Let go of what is too old, if it is time (LED-20)."""
    row = prune(
        database=services.database,
        clock=services.clock,
        payload_days=services.settings.retention_days,
        row_days=services.settings.retention_rows_days,
        when_due=True,
        stop=time_is_up(SLICE_SECONDS),
    )
    if row is not None and row.unfinished:
        services.queue.send(job, delay_seconds=1)


def ledger_sweep(_job: Sweep, services: Services) -> None:
    """Wake what a lost message left behind."""
    sweep(
        database=services.database,
        queue=services.queue,
        clock=services.clock,
        cancels_duplicates=services.settings.duplicate_policy == "cancel_newest",
    )


def outbox_notify(job: Notify, services: Services) -> str | None:
    """Tell the application what changed (NTF)."""
    report = notify(
        database=services.database,
        notifier=services.notifier,
        clock=services.clock,
        stop=time_is_up(SLICE_SECONDS),
    )
    if report.unfinished:
        services.queue.send(job)
    return FAILED if report.postponed or report.given_up else None
