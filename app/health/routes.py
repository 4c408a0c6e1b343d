"""For operators: alive, ready, and figures for Prometheus.

Readiness asks the database, the migrations and the broker, each with a short timeout, and whether deliveries find
room. The ledger's gauges are counted in SQL when they are asked for, so that they hold for all processes together.
"""

import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.health.readiness import CHECK_SECONDS, Check
from app.identity.callers import is_bearer
from app.webhooks import Deliveries
from billing.checkout import checkout_store
from billing.coordination.jobs import QUEUES
from billing.coordination.queue import NOT_REACHABLE
from billing.errors import LedgerUnavailable, Unauthorized
from billing.maintenance import runs
from billing.notifications import store as outbox_store
from billing.operators.presence import list_processes
from billing.operators.readiness import examine_ledger, try_to_write
from billing.process.metrics import FolderCollector, MetricsFile
from billing.services import Services
from billing.subscriptions import projection_store
from billing.webhooks import events_store

HANGING_LEDGER = {"database": "not reachable", "migrations": "not known"}
HANGING_BROKER = {"broker": NOT_REACHABLE}


def health_routes(services: Services, deliveries: Deliveries) -> Blueprint:
    """GET /healthz, /readyz and /metrics."""
    routes = Blueprint("health", __name__)
    registry = _registry(services)
    ledger = Check("ledger", lambda: examine_ledger(services.database), hanging=HANGING_LEDGER)
    broker = Check("broker", lambda: _broker(services), hanging=HANGING_BROKER)

    @routes.get("/healthz")
    def alive() -> Response:
        return _uncached(jsonify(status="alive"))

    @routes.get("/readyz")
    def ready() -> Response:
        both, until = (ledger.begin(), broker.begin()), time.monotonic() + CHECK_SECONDS  # side by side
        checks = {
            **ledger.words(both[0], until=until),
            **broker.words(both[1], until=until),
            "deliveries": "refused for want of room" if deliveries.are_refused else "ok",
        }
        good = all(word == "ok" for word in checks.values())
        answer = jsonify(status="ready" if good else "not ready", checks=checks)
        answer.status_code = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return _uncached(answer)

    token = services.settings.metrics_token

    @routes.get("/metrics")
    def metrics() -> Response:
        if token is not None and not is_bearer(request.headers.get("Authorization", ""), token.get_secret_value()):
            raise Unauthorized("Send METRICS_TOKEN as `Authorization: Bearer …`.")
        return _uncached(Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST))

    return routes


def _broker(services: Services) -> dict[str, str]:
    return {"broker": services.queue.trouble() or "ok"}


GAUGES: Mapping[str, str] = {
    "onelane_events_pending": "Events recorded and not yet worked.",
    "onelane_oldest_pending_seconds": "Age of the oldest pending event.",
    "onelane_events_dead": "Events given up.",
    "onelane_reconciled_age_seconds": "How far behind now Stripe's events have been read; 0 before the first time.",
    "onelane_incidents_open": "Incidents a person has to look at.",
    "onelane_notifications_undelivered": "Changes that the application did not take yet, or that were given up.",
    "onelane_messages_undelivered": "The same, by the name of before.",
    "onelane_checkouts_waiting": "Checkouts that no worker answered yet.",
    "onelane_oldest_waiting_seconds": "Age of the oldest of them.",
    "onelane_beat_age_seconds": "How long ago beat was there; +Inf where none was within a day.",
}


class LedgerGauges(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Count in one short transaction; with the ledger down only that is said."""
        figures, workers, up = dict[str, float](), dict[str, int](), 1.0
        database, now = self._services.database, self._services.clock.now()
        try:
            try_to_write(database)
            with database.read() as connection:
                there, waiting = list_processes(connection), checkout_store.waiting(connection, now=now)
                workers = {queue: sum(one.is_there and queue in one.queues for one in there) for queue in QUEUES}
                untaken = outbox_store.count_untaken(connection)
                beats = (one.age_seconds for one in there if one.kind == "beat")
                figures = {
                    "onelane_events_pending": events_store.count_pending(connection),
                    "onelane_oldest_pending_seconds": events_store.oldest_pending_age_seconds(connection, now),
                    "onelane_events_dead": events_store.count_dead(connection),
                    "onelane_reconciled_age_seconds": runs.mark_age_seconds(connection, now),
                    "onelane_incidents_open": projection_store.count_open_incidents(connection),
                    "onelane_notifications_undelivered": untaken,
                    "onelane_messages_undelivered": untaken,
                    "onelane_checkouts_waiting": waiting.count,
                    "onelane_oldest_waiting_seconds": waiting.oldest_seconds,
                    "onelane_beat_age_seconds": min(beats, default=float("inf")),
                }
        except LedgerUnavailable:
            up = 0.0
        yield GaugeMetricFamily("onelane_ledger_up", "Whether the ledger answered and took a write.", value=up)
        for name, value in figures.items():
            yield GaugeMetricFamily(name, GAUGES[name], value=value)
        by_queue = GaugeMetricFamily("onelane_workers", "Workers that are there.", labels=["queue"])
        for queue, count in workers.items():
            by_queue.add_metric([queue], count)
        yield by_queue


def _registry(services: Services) -> CollectorRegistry:
    """The counters of this process, or of all processes where METRICS_DIR is set; and the gauges."""
    registry = CollectorRegistry()
    if folder := services.settings.metrics_dir:
        own = MetricsFile(folder)
        own.keep_writing()
        registry.register(FolderCollector(folder, own))
    else:
        registry.register(REGISTRY)
    registry.register(LedgerGauges(services))
    return registry


def _uncached(answer: Response) -> Response:
    answer.cache_control.no_store = True
    return answer
