"""The webhook endpoint at Stripe, through the real gateway and SDK over the sandbox; and the command."""

import json

import pytest

from billing.stripe_gateway import API_VERSION
from billing.webhooks.endpoint import Action, set_up_endpoint
from billing.webhooks.event_types import FOLLOWED
from sandbox.core import Sandbox
from tests.support.in_process import API_KEY, gateway

URL = "https://app.example.com/webhooks/stripe"


@pytest.fixture
def sandbox():
    """A Stripe without endpoints."""
    return Sandbox()


@pytest.fixture
def set_up(sandbox):
    """Run the setup."""

    def set_up(url=URL, *, dry_run=False, replace=False):
        return set_up_endpoint(url, stripe=gateway(sandbox), api_version=API_VERSION, dry_run=dry_run, replace=replace)

    return set_up


@pytest.fixture
def call(sandbox):
    """Ask the sandbox by itself, as the Dashboard would."""

    def call(method, path, **params):
        answer = sandbox.request(method, path, params, api_key=API_KEY)
        body = json.loads(answer.data)
        assert answer.status == 200, body
        return body

    return call


def endpoints(call):
    return call("GET", "/v1/webhook_endpoints")["data"]


def test_endpoint_is_made_with_the_followed_types_and_our_version(set_up, call):
    """WHK-40, WHK-41"""
    done = set_up()
    [made] = endpoints(call)
    assert (done.action, done.endpoint_id, done.other_version) == (Action.CREATED, made["id"], None)
    assert done.secret.startswith("whsec_")
    assert "whsec_" not in repr(done)
    assert set(made["enabled_events"]) == set(done.added) == set(FOLLOWED)
    assert (made["url"], made["api_version"]) == (URL, API_VERSION)


def test_running_it_again_changes_nothing(set_up, sandbox, call):
    """WHK-40, WHK-41: nor is the secret shown again."""
    set_up()
    before = endpoints(call)
    done = set_up()
    assert (done.action, done.added, done.removed, done.secret) == (Action.UNCHANGED, [], [], None)
    assert (done.enabled, done.other_version, done.left_over) == (False, None, [])
    assert endpoints(call) == before


def test_types_that_differ_are_put_right_and_a_switched_off_endpoint_is_switched_on(set_up, call):
    """WHK-40"""
    made = set_up()
    call(
        "POST",
        f"/v1/webhook_endpoints/{made.endpoint_id}",
        enabled_events=["invoice.paid", "product.created"],
        disabled=True,
    )
    tried = set_up(dry_run=True)
    assert endpoints(call)[0]["status"] == "disabled", "a dry run changes nothing"
    done = set_up()
    assert (done.action, done.removed, done.enabled, done.secret) == (Action.UPDATED, ["product.created"], True, None)
    assert set(done.added) == set(FOLLOWED) - {"invoice.paid"}
    assert (tried.added, tried.removed, tried.enabled) == (done.added, done.removed, done.enabled)
    [now] = endpoints(call)
    assert (set(now["enabled_events"]), now["status"]) == (set(FOLLOWED), "enabled")


def test_endpoint_for_everything_is_narrowed(set_up, call):
    """WHK-40"""
    call("POST", "/v1/webhook_endpoints", url=URL, enabled_events=["*"], api_version=API_VERSION)
    assert set_up().removed == ["*"]


def test_endpoints_of_other_addresses_are_not_touched(set_up, call):
    """WHK-40: an account may have hundreds, more than a page."""
    for number in range(120):
        call(
            "POST", "/v1/webhook_endpoints", url=f"https://other.example.com/{number}", enabled_events=["invoice.paid"]
        )
    first = set_up()
    assert (first.action, set_up().action) == (Action.CREATED, Action.UNCHANGED)
    others = call("GET", "/v1/webhook_endpoints", limit=100)["data"]
    assert sum(one["enabled_events"] == ["invoice.paid"] for one in others) == 99


def test_other_version_is_told_and_replaced_only_on_demand(set_up, call):
    """WHK-40: no update changes an endpoint's version; the old one stays until a person has the new secret in place."""
    old = call("POST", "/v1/webhook_endpoints", url=URL, enabled_events=["invoice.paid"])
    done = set_up()
    assert (done.action, done.endpoint_id, done.other_version) == (
        Action.UPDATED,
        old["id"],
        "the account's default",
    )
    new = set_up(replace=True)
    assert (new.action, new.left_over) == (Action.CREATED, [old["id"]])
    assert new.secret
    again = set_up()
    assert (again.action, again.endpoint_id, again.left_over) == (Action.UNCHANGED, new.endpoint_id, [old["id"]])


def test_dry_run_creates_nothing(set_up, call):
    """WHK-40"""
    done = set_up(dry_run=True)
    assert (done.action, done.endpoint_id, done.secret) == (Action.CREATED, None, None)
    assert endpoints(call) == []


def test_secret_is_known_also_when_the_first_answer_was_lost(set_up, sandbox, call):
    """WHK-41: the creation is sent again with its key, and makes no second endpoint."""
    sandbox.faults.add("drop_after", method="POST", path="/v1/webhook_endpoints")
    done = set_up()
    assert done.secret.startswith("whsec_")
    assert [one["id"] for one in endpoints(call)] == [done.endpoint_id]
