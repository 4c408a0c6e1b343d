"""A worker process with our runtime and tasks that only note what they did: `python -m tests.worker.consumer`.

What a row id means here: 1-99 quick, 100-199 takes 1.5 s, 600 transient, 601 permanent, 602 unexpected.
"""

import sys
import time
import warnings
from pathlib import Path

from billing.coordination.jobs import RemedyDuplicates, RowJob, WorkLane
from billing.errors import PermanentError, TransientError
from billing.process.logs import configure_logging
from billing.process.settings import load_settings
from billing.services import Services, build_services
from worker.app import create_celery
from worker.consumer import consume
from worker.task_base import JobTask

NOTES = Path(sys.argv[1])


def note(word: str, job: RowJob) -> None:
    with NOTES.open("a", encoding="utf-8") as file:
        file.write(f"{time.time()} {word} {job.kind} {job.row_id}\n")


def work(job: RowJob, services: Services) -> None:
    services.queue.taken(job)
    note("begun", job)
    if job.row_id == 600:
        raise TransientError("Not now.")
    if job.row_id == 601:
        raise PermanentError("Never.")
    if job.row_id == 602:
        raise RuntimeError("sk_test_secretofthetest")
    if 100 <= job.row_id < 200:
        time.sleep(1.5)
    note("done", job)


if __name__ == "__main__":
    settings = load_settings()
    configure_logging(settings, process="test")
    services = build_services(settings)
    celery = create_celery(settings, services=lambda: services)
    warnings.simplefilter("ignore")  # about registering a name anew, and about root
    for kind in (WorkLane, RemedyDuplicates):
        celery.register_task(JobTask(kind, work, lambda: services))
    queues = ["checkout", "webhooks", "maintenance"]
    sys.exit(consume(celery, queues=queues, concurrency=int(sys.argv[2]), name="test", alive_file=Path(sys.argv[3])))
