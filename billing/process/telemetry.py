"""OpenTelemetry and Sentry: off until they are set, and extras of the package (`onelane[otel]`, `onelane[sentry]`).

What leaves a process is redacted as its log lines are: no secret, no address of a payment page, no email, no query.
Sentry hears of what is logged as an error, without request data, breadcrumbs or local variables.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from structlog.processors import format_exc_info

from billing.errors import ConfigurationError
from billing.process.logs import known_secrets, redacted
from billing.process.settings import Settings

QUIET_ROUTES = "healthz,readyz,metrics"  # asked every few seconds
_WITH_QUERY = ("http.url", "http.target", "url.full", "url.path")
_LEFT_OUT = ("url.query", "http.user_agent", "user_agent.original", "net.peer.ip", "client.address")


def start_telemetry(
    settings: Settings, *, process: str, flask: Any = None, exporter: Any = None, transport: Any = None
) -> None:
    """Begin what the settings name. `flask` is the web's application; `exporter` and `transport` replace the network.

    Raises ConfigurationError where the extra is not installed.
    """
    secrets = known_secrets(settings)
    try:
        if settings.otel_exporter_otlp_endpoint:
            _trace(settings.otel_exporter_otlp_endpoint, process, secrets, flask=flask, exporter=exporter)
        if settings.sentry_dsn:
            _report_errors(settings.sentry_dsn.get_secret_value(), process, secrets, transport=transport)
    except ModuleNotFoundError as error:
        extra, name = (
            ("sentry", "SENTRY_DSN") if "sentry" in str(error.name) else ("otel", "OTEL_EXPORTER_OTLP_ENDPOINT")
        )
        raise ConfigurationError(f"{name} needs the extra onelane[{extra}]. Install it, or unset {name}.") from None


def _trace(endpoint: str, process: str, secrets: tuple[str, ...], *, flask: Any, exporter: Any) -> None:
    """Spans of requests (Flask) and of messages sent and worked (Celery), in one trace."""
    sdk, export = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.trace.export")
    resources = import_module("opentelemetry.sdk.resources")
    named = {"service.name": "onelane", "service.version": version("onelane"), "onelane.process": process}
    provider = sdk.TracerProvider(resource=resources.Resource.create(named))
    if exporter is None:
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        exporter = otlp.OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(Redacting(exporter, sdk.ReadableSpan, secrets)))
    import_module("opentelemetry.trace").set_tracer_provider(provider)
    import_module("opentelemetry.instrumentation.celery").CeleryInstrumentor().instrument(tracer_provider=provider)
    if flask is not None:
        instrumentor = import_module("opentelemetry.instrumentation.flask").FlaskInstrumentor()
        instrumentor.instrument_app(flask, tracer_provider=provider, excluded_urls=QUIET_ROUTES)


class Redacting:
    """An exporter of spans that cuts out of each what a log line may not have, and hands it on."""

    def __init__(self, exporter: Any, span: Any, secrets: tuple[str, ...]) -> None:
        self._exporter = exporter
        self._span = span
        self._secrets = secrets
        self.shutdown, self.force_flush = exporter.shutdown, exporter.force_flush

    def export(self, spans: Sequence[Any]) -> Any:
        return self._exporter.export([self._copy(span) for span in spans])

    def _copy(self, span: Any) -> Any:
        # Of an exception its type is kept: the log has the rest.
        return self._span(
            name=redacted("", span.name, self._secrets),
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self._attributes(span.attributes or {}),
            links=span.links,
            kind=span.kind,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in attributes.items() if name not in _LEFT_OUT}
        for name in _WITH_QUERY:
            if name in kept:
                kept[name] = str(kept[name]).partition("?")[0]
        return {name: redacted(name, value, self._secrets) for name, value in kept.items()}


def _report_errors(dsn: str, process: str, secrets: tuple[str, ...], *, transport: Any) -> None:
    """What is logged as an error, with its fields and its traceback."""
    sentry = import_module("sentry_sdk")

    def before_send(event: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
        record = hint.get("log_record")
        if record is not None and isinstance(record.msg, Mapping):
            fields = dict(format_exc_info(None, "error", dict(record.msg)))  # the traceback is one of them
            event["logentry"] = {"message": str(fields.pop("event", "")), "params": []}
            event["extra"] = fields
        kept = {name: value for name, value in event.items() if name not in ("request", "user", "breadcrumbs")}
        return {name: redacted("", value, secrets) for name, value in kept.items()}

    sentry.init(
        dsn=dsn,
        release=f"onelane@{version('onelane')}",
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        max_request_body_size="never",
        before_send=before_send,
        **({} if transport is None else {"transport": transport}),
    )
    sentry.set_tag("process", process)
