"""The Celery application of the workers: the producer's transport plus how messages are consumed.

A message is a wake-up: it is acknowledged after the work, taken one at a time, and what it names is
checked before anything runs. Results are rows of the ledger; Celery keeps none.
"""

from collections.abc import Callable

from celery import Celery

from billing.coordination.queue import create_producer
from billing.process.settings import Settings
from billing.services import Services
from worker.schedule import SCHEDULE
from worker.tasks import register

SOFT_SHUTDOWN_SECONDS = 20  # two Stripe calls at their 10 s timeout; what is not done by then goes back


def create_celery(settings: Settings, *, services: Callable[[], Services], threads: int = 16) -> Celery:
    """Give the application with every task registered. `services` is called in the worker, at its first task.

    `threads`: how many jobs are worked at once.
    """
    celery = create_producer(settings)
    celery.conf.update(
        task_acks_late=True,  # a killed worker's message comes back
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,  # a failure is in the ledger; redelivery would be a second retry
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,  # what waits, waits in the queue, where an idle worker finds it
        worker_eta_task_limit=1000,  # put-off jobs held in memory; the sweep finds whatever is beyond
        worker_soft_shutdown_timeout=SOFT_SHUTDOWN_SECONDS,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a lost broker must not stop a lane half-way
        worker_enable_remote_control=False,  # nobody who reaches the broker may command a worker
        worker_send_task_events=False,
        worker_consumer="worker.consumer:GuardedConsumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_max_retries=None,  # wait for the broker for as long as it takes
        broker_channel_error_retry=True,  # also for one that answers and takes no writes: full, or a replica now
        beat_schedule=SCHEDULE,
        beat_scheduler="worker.schedule:MemoryScheduler",
    )
    register(celery, services, threads=threads)
    return celery
