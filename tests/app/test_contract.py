"""The contract, fuzzed: schemathesis makes requests from our own OpenAPI document, within its bounds and beyond them.

Every answer has to be one that the document lists, whoever asks: status, media type, headers and fields. What is beyond
the bounds is refused, what is within them is not, a method that an address does not have gets 405, and nothing a 5xx.
In process, over a real ledger and the sandbox; the same requests each time.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.app.conftest import AtOnce, MakeApp
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, DOCUMENT, Web, token

ORIGIN = "https://app.example.com"  # of the addresses in the document's examples
NEVER = 4_102_444_800  # the year 2100
SCHEMA = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig.from_dict(
        {
            "generation": {"deterministic": True, "database": "none", "with-security-parameters": False},
            "checks": {
                # What only words can say is refused, too: `_in_words` has what that may be.
                "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "403", "404", "409", "422"]},
                "ignored_auth": {"enabled": False},  # it needs a socket; the last test here does the same
            },
        }
    ),
)
# Plans are the catalog's, addresses the operator's, and whether a user is named depends on who asks.
IN_WORDS = {"/plan", "/quantity", "/metadata/*", "/success_url", "/cancel_url", "/return_url", "/user_id"}
CREDENTIALS = {
    "a new buyer": token("user_1", exp=NEVER),
    "a subscriber": token("user_2", exp=NEVER),
    "a server": API_KEYS[0],
    "a forger": token(exp=NEVER, secret="another-secret-of-more-than-32-bytes"),
    "a guesser": API_KEYS[0] + "x",
    "nobody": "",
}


def fuzz(examples: int) -> Callable[..., settings]:
    """So many requests beside those that schemathesis makes for each bound; ten times as many in `make check`."""
    return settings(
        max_examples=examples * (10 if os.environ.get("FUZZ") == "long" else 1),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture
def fuzzed(make_app: MakeApp, world: World) -> Web:
    """The application with workers that are done before the request looks; `user_2` has a subscription."""
    world.sandbox.pay(str(world.served(user="user_2").session_id))
    return Web(make_app(services={"queue": AtOnce(world)}, redirect_origins=ORIGIN))


def call(case: schemathesis.Case, who: str, web: Web, *, excluded: Sequence[Any] = ()) -> Response:
    """Send it with this credential, and have schemathesis judge the answer."""
    sent = {"Authorization": f"Bearer {CREDENTIALS[who]}"} if CREDENTIALS[who] else {}
    answer = case.call(app=web.app, headers=sent)
    case.validate_response(answer, headers=sent, transport_kwargs={"app": web.app}, excluded_checks=list(excluded))
    return answer


@SCHEMA.exclude(path="/webhooks/stripe").parametrize()
@fuzz(15)
@pytest.mark.parametrize("who", ["a new buyer", "a subscriber", "a server"])
def test_every_answer_is_one_of_the_document(case: schemathesis.Case, who: str, fuzzed: Web) -> None:
    """API-3, API-53, API-63; fault 69"""
    answer = call(case, who, fuzzed)

    if answer.status_code in (400, 422) and case.meta and case.meta.generation.mode.is_positive:
        assert _in_words(case, answer.json()), f"refused for what the document allows: {answer.text}"


def _in_words(case: schemathesis.Case, problem: dict[str, Any]) -> bool:
    """Whether a request within the bounds was refused for what no schema says."""
    if problem["code"] == "invalid_id":  # whether a character is printable, Unicode says
        return not unquote(str(case.path_parameters["user_id"])).isprintable()
    # Which names of metadata a buyer may set, the catalog says.
    pointers = {re.sub("(?s)^/metadata/.*", "/metadata/*", error["pointer"]) for error in problem.get("errors", [])}
    return pointers <= IN_WORDS if pointers else problem["code"] == "idempotency_key_reused"


@SCHEMA.include(path="/webhooks/stripe").parametrize()
@fuzz(15)
@pytest.mark.parametrize("who", ["nobody", "a server"])
def test_unsigned_delivery_is_refused_whatever_it_says(case: schemathesis.Case, who: str, fuzzed: Web) -> None:
    """API-3, API-53; signed ones are made up in tests/billing/webhooks/test_envelope_fuzz.py"""
    answer = call(case, who, fuzzed, excluded=[positive_data_acceptance])

    assert answer.status_code in (400, 405, 413) or case.method == "OPTIONS"


@SCHEMA.include(path_regex="^/v1/").exclude(path="/v1/plans").parametrize()
@fuzz(3)
def test_without_a_credential_no_request_gets_further_than_401(case: schemathesis.Case, fuzzed: Web) -> None:
    """API-10, API-53; fault 64"""
    other_method = case.method.upper() != case.operation.method.upper()
    expected = 401 if not other_method else 200 if case.method == "OPTIONS" else 405
    for who in ("a forger", "a guesser", "nobody"):
        assert call(case, who, fuzzed).status_code == expected


def test_examples_of_the_document_are_served(fuzzed: Web) -> None:
    """API-53, API-63: so the requests above also get to where there is something to do."""
    served = {
        ("POST", "/v1/checkouts"): ("user_1", 201),
        ("POST", "/v1/subscription/switch"): ("user_2", 200),
        ("DELETE", "/v1/subscription/switch"): ("user_2", 200),
        ("POST", "/v1/portal-sessions"): ("user_2", 200),
        ("POST", "/v1/subscription/cancel"): ("user_2", 200),
        ("POST", "/v1/subscription/reactivate"): ("user_2", 200),
        ("PUT", "/v1/customers/user_3"): (None, 200),
    }
    for (method, path), (user, status) in served.items():
        example = _example(DOCUMENT["paths"][path.replace("user_3", "{user_id}")][method.lower()])
        answer = fuzzed.call(method, path, json=example, **({"user": user} if user else {"bearer": API_KEYS[0]}))
        assert answer.status_code == status, (path, answer.get_data(as_text=True))


def _example(operation: dict[str, Any]) -> dict[str, Any]:
    """The required fields of the first kind of body, as the document's examples have them."""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    reference = schema.get("anyOf", [schema])[0]["$ref"]
    body = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
    return {name: body["properties"][name]["examples"][0] for name in body.get("required", ())}
