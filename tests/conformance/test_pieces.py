"""The pieces of `make conformance`, without any of Stripe's programs."""

from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.server import running
from tests.conformance.__main__ import unexpected
from tests.conformance.programs import Outcome, Row, ask, judged, names_of
from tests.conformance.recorder import recording
from tests.conformance.schemas import Document

THING: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "name": {"type": "string", "nullable": True}},
}


def document() -> Document:
    answer = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/thing"}}}}
    paths = {"/v1/things/{thing}": {"get": {"responses": {"200": answer}}}}
    return Document({"info": {"version": "1"}, "paths": paths, "components": {"schemas": {"thing": THING}}})


@pytest.mark.parametrize(
    ("answer", "mistakes"),
    [
        ({"id": "a", "name": None}, 0),
        ({"id": "a", "newer": 1}, 0),
        ({"name": "x"}, 1),
        ({"id": 1}, 1),
        ({"id": None}, 1),
    ],
)
def test_an_answer_is_held_against_the_schema_of_its_address(answer: Any, mistakes: int) -> None:
    found = document().mistakes("GET", "/v1/things/a", 200, answer)
    assert found is not None
    assert len(found) == mistakes


def test_an_address_that_the_document_lacks_is_not_judged() -> None:
    assert document().mistakes("GET", "/v1/others/a", 200, {}) is None


def test_the_triggers_are_read_from_the_help_text() -> None:
    text = "x\n\nSupported events:\n  customer.created\n  issuing_card.created.eu\n\nUsage:\n  stripe\n"
    assert names_of(text) == ["customer.created", "issuing_card.created.eu"]


@pytest.mark.parametrize(
    ("code", "output", "missing", "outcome"),
    [
        (0, "Trigger succeeded!", None, Outcome.PASSED),
        (0, "Trigger succeeded!", "price.created", Outcome.FAILED),
        (1, '"message": "No such customer", "code": "resource_missing"', None, Outcome.FAILED),
        (1, '"message": "The sandbox does not support x.", "code": "sandbox_unsupported"', "x", Outcome.NOT_RUN),
    ],
)
def test_a_run_passes_only_with_its_event(code: int, output: str, missing: str | None, outcome: Outcome) -> None:
    assert judged("x", code, output, missing).outcome is outcome


def test_only_what_is_expected_may_be_not_run() -> None:
    rows = [Row("a", Outcome.NOT_RUN), Row("b", Outcome.NOT_RUN), Row("c", Outcome.PASSED), Row("d", Outcome.FAILED)]
    named = {"not run": {"a": "why", "c": "why"}}
    assert [one.partition(":")[0] for one in unexpected(rows, named)] == ["b", "c", "d"]


def test_the_recorder_passes_answers_on_and_keeps_them() -> None:
    with running(Sandbox(seed="recorder")) as url, recording(url) as recorder:
        assert ask(f"{recorder.url}/v1/customers?limit=1")["data"] == []
        (kept,) = recorder.exchanges
        assert (kept.method, kept.path, kept.status) == ("GET", "/v1/customers", 200)
