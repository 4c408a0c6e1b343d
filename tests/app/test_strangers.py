"""What belongs to somebody else: every route of /v1, taken from the URL map, asked with another user's credentials.

A route that is added to the map and not to OWNED fails here, so nobody forgets to say whose things it shows.
"""

import json
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from tests.app.conftest import MakeApp
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, Web

# Routes with an id in their path that has an owner: its name there, and an id that nobody has.
OWNED = {
    ("GET", "/v1/checkouts/<checkout_id>"): ("checkout_id", "chk_0"),
    ("GET", "/v1/operations/<operation_id>"): ("operation_id", "op_0"),
}
# Routes without one: they show or change what is the caller's own. `user_id` in any place is refused to a buyer.
OWN = {("POST", "/v1/checkouts"), ("GET", "/v1/subscription"), ("POST", "/v1/portal-sessions")}
OWN |= {("POST", f"/v1/subscription/{what}") for what in ("cancel", "reactivate", "switch")}
OWN |= {("DELETE", "/v1/subscription/switch")}
PUBLIC = {("GET", "/v1/plans")}
SERVERS_ONLY = {("PUT", "/v1/customers/<path:user_id>")}


def routes(app: Flask) -> set[tuple[str, str]]:
    """Each method and rule of /v1."""
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_says_whose_things_it_shows(make_app: MakeApp) -> None:
    """API-14; faults row 65."""
    assert routes(make_app()) == {*OWNED, *OWN, *PUBLIC, *SERVERS_ONLY}


def test_anothers_things_read_as_if_they_did_not_exist_on_every_route(served: Web, world: World) -> None:
    """API-14; faults row 65: by status, body and headers, for a buyer and for a server that names another user."""
    checkout = served.checkout(user="ann").get_json()
    world.sandbox.pay(checkout["session_id"])
    operation = served.call("POST", "/v1/subscription/cancel", user="ann").get_json()
    ids = {"checkout_id": checkout["id"], "operation_id": operation["id"]}
    for (method, rule), (name, nobodys) in OWNED.items():
        for credential, named in (({"user": "eve"}, ""), ({"bearer": API_KEYS[0]}, "?user_id=eve")):
            foreign, missing = (
                served.call(method, rule.replace(f"<{name}>", one) + named, json={}, **credential)  # type: ignore[arg-type]
                for one in (ids[name], nobodys)
            )
            assert foreign.status_code == 404, rule
            assert _comparable(foreign) == _comparable(missing), rule
        assert served.call(method, rule.replace(f"<{name}>", ids[name]), user="ann").status_code == 200


def test_buyer_who_names_another_user_is_refused_on_every_route(served: Web) -> None:
    """API-14, API-16; faults row 65."""
    for method, rule in OWN | set(OWNED):
        answer = served.call(method, f"{_nobodys(rule)}?user_id=ann", user="eve", json={"user_id": "ann"})
        assert answer.status_code == 422, rule
    for method, rule in SERVERS_ONLY:
        assert served.call(method, _nobodys(rule), user="ann", json={"customer_id": "cus_1"}).status_code == 403, rule


def test_without_a_credential_only_the_public_routes_answer(served: Web) -> None:
    """API-10"""
    for method, rule in OWN | set(OWNED) | SERVERS_ONLY:
        assert served.call(method, _nobodys(rule), user=None, json={}).status_code == 401, rule


def _nobodys(rule: str) -> str:
    """The route's address, with ids that nobody has."""
    for name, nobodys in (*OWNED.values(), ("path:user_id", "ann")):
        rule = rule.replace(f"<{name}>", nobodys)
    return rule


def _comparable(answer: TestResponse) -> Any:
    headers = {name: value for name, value in answer.headers.items() if name != "Request-Id"}
    body = answer.get_json(force=True) | {"request_id": ""}
    return answer.status_code, json.dumps(body), headers
