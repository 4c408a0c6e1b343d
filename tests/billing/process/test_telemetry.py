"""Traces and reports of errors: what they say, and what never leaves. Each in a process of its own: both are global."""

import json
import subprocess
import sys
from typing import Any

import pytest

from billing.errors import ConfigurationError
from billing.process import telemetry
from tests.app.conftest import build_settings
from tests.support.running_dev import ROOT, environment

EMAIL, PAGE = "ann@example.com", "https://checkout.stripe.com/c/pay/cs_test_a1b2c3"
# A web whose routes have what must not leave, and a message that is sent within a request.
TRACED = f"""
import json
from flask import Flask, abort
from celery import Celery
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry import trace
from billing.process.telemetry import start_telemetry
from tests.app.conftest import build_settings

app, kept = Flask("web"), InMemorySpanExporter()
settings = build_settings(otel_exporter_otlp_endpoint="http://127.0.0.1:1", stripe_api_key="sk_test_the_key")
celery = Celery(broker="memory://")

@app.get("/v1/<path:what>")
def show(what):
    with trace.get_tracer("test").start_as_current_span("look at {EMAIL}") as span:
        span.set_attribute("page", "{PAGE}")
        span.set_attribute("token", "anything")
        span.set_attribute("key", settings.stripe_api_key.get_secret_value())
        span.record_exception(ValueError("{EMAIL}"))
    celery.send_task("lane.work", args=[1])
    return "ok"

@app.get("/healthz")
def alive():
    return "ok"

start_telemetry(settings, process="web", flask=app, exporter=kept)
client = app.test_client()
client.get("/v1/{EMAIL}?user_id={EMAIL}", headers={{"Authorization": "Bearer abcdef.ghijkl"}})
client.get("/healthz")
trace.get_tracer_provider().force_flush()
print(json.dumps([json.loads(span.to_json()) for span in kept.get_finished_spans()]))
"""
REPORTED = f"""
import json
import structlog
import sentry_sdk
from billing.process.logs import configure_logging
from billing.process.telemetry import start_telemetry
from tests.app.conftest import build_settings
import io

settings = build_settings(sentry_dsn="https://abc@sentry.example/1", stripe_api_key="sk_test_the_key")
configure_logging(settings, process="web", stream=io.StringIO())
sent = []
class Kept(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        sent.extend(item.payload.json for item in envelope.items)

start_telemetry(settings, process="web", transport=Kept)
log = structlog.get_logger("billing.test")
secret = settings.stripe_api_key.get_secret_value()
try:
    raise ValueError("{EMAIL} {PAGE} " + secret)
except ValueError:
    log.error("job.crashed", exc_info=True, email="{EMAIL}", page="{PAGE}", job="lane.work", key=secret)
log.info("not.sent", email="{EMAIL}")
print(json.dumps(sent, default=str))
"""


def told(script: str) -> list[dict[str, Any]]:
    """What the script's exporter or transport was given."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def nothing_leaks(said: Any) -> None:
    text = json.dumps(said)
    for secret in (EMAIL, "cs_test_a1b2c3", "test_the_key", "abcdef.ghijkl", "user_id="):
        assert secret not in text, text


def test_request_and_its_message_are_one_trace_without_secrets() -> None:
    """OPS-178"""
    pytest.importorskip("opentelemetry.sdk", reason="the extra onelane[otel] is not installed")
    spans = told(TRACED)

    nothing_leaks(spans)
    assert {span["context"]["trace_id"] for span in spans} == {spans[0]["context"]["trace_id"]}
    names = [span["name"] for span in spans]
    assert any("lane.work" in name for name in names), names
    assert any("/v1/" in name for name in names), names
    assert not any("healthz" in name for name in names)


def test_error_is_reported_with_its_fields_and_without_secrets() -> None:
    """OPS-178"""
    pytest.importorskip("sentry_sdk", reason="the extra onelane[sentry] is not installed")
    [event] = told(REPORTED)

    nothing_leaks(event)
    assert event["logentry"]["message"] == "job.crashed"
    assert event["extra"]["job"] == "lane.work"
    assert event["extra"]["exception"].startswith("Traceback")
    assert "ValueError" in event["extra"]["exception"]
    assert event["tags"]["process"] == "web"


def test_nothing_is_loaded_until_it_is_set() -> None:
    """OPS-178"""
    names = ("sentry_sdk", "opentelemetry.instrumentation")  # redis itself loads the SDK where it is installed
    script = "\n".join(
        (
            "import json, sys",
            "from billing.process.telemetry import start_telemetry",
            "from tests.app.conftest import build_settings",
            "start_telemetry(build_settings(), process='web')",
            f"print(json.dumps([name for name in sys.modules if name.startswith({names})]))",
        )
    )
    assert told(script) == []


@pytest.mark.parametrize(("setting", "extra"), [("otel_exporter_otlp_endpoint", "otel"), ("sentry_dsn", "sentry")])
def test_extra_that_is_not_installed_is_named(setting: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-178"""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(telemetry, "import_module", missing)
    with pytest.raises(ConfigurationError, match=rf"onelane\[{extra}\]"):
        telemetry.start_telemetry(build_settings(**{setting: "http://127.0.0.1:1"}), process="web")
