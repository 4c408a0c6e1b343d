"""The control plane under /_sandbox/: JSON in and out, no key.

Whoever can reach it can break everything; that is its use. A page that a person on this machine looks at can not: what
it sends without being asked is no JSON or has an `Origin`, and a name of its own that leads here is not our Host.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request

from . import control_people, thin, webhooks
from .control_people import body_of, table_of
from .core import Sandbox
from .errors import ApiError, Json
from .events import visible


def blueprint(sandbox: Sandbox) -> Blueprint:
    pages = Blueprint("control", __name__, url_prefix="/_sandbox")

    @pages.before_request
    def refuse_other_pages() -> None:
        own = request.host_url.rstrip("/")
        if not _is_own(urlsplit(own).hostname or "", sandbox.public_url):
            raise ApiError(403, "This is not the sandbox's own address.")
        if request.headers.get("Origin", own) != own:
            raise ApiError(403, "Pages of other origins may not use the control plane.")
        if request.method == "POST" and (request.mimetype or request.content_length) and not request.is_json:
            raise ApiError(415, "Send the body as application/json.")

    @pages.errorhandler(ApiError)
    def refused(error: ApiError) -> tuple[Response, int]:
        return jsonify(error={"message": error.message}), error.status

    @pages.errorhandler(ValueError)
    def nonsense(error: ValueError) -> tuple[Response, int]:
        return jsonify(error={"message": str(error)}), 400

    @pages.get("/state")
    def state() -> Response:
        with sandbox.calling():
            return jsonify(
                account=sandbox.account,
                now=sandbox.clock.now(),
                counts=sandbox.store.counts(),
                pending_deliveries=sum(one["status"] == "pending" for one in sandbox.store.all("delivery")),
            )

    @pages.post("/seed")
    def seed() -> Response:
        body = body_of()
        objects = body if isinstance(body, list) else body.get("objects", [])
        return jsonify(seeded=sandbox.seed(objects))

    @pages.post("/restricted_keys")
    def restrict() -> tuple[Response, int]:
        """`key` (rk_test_…) has these `permissions` and no others."""
        body = table_of()
        key, names = body.get("key"), body.get("permissions")
        if not isinstance(key, str) or not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise ApiError(400, "key and permissions (a list) are required.")
        sandbox.restrict(key, names)
        return jsonify(permissions=sorted(set(names))), 201

    @pages.post("/reset")
    def reset() -> Response:
        sandbox.reset()
        return jsonify(reset=True)

    _faults_and_clock(pages, sandbox)
    _requests(pages, sandbox)
    _deliveries(pages, sandbox)
    _buyers(pages, sandbox)
    control_people.add(pages, sandbox)
    return pages


def _faults_and_clock(pages: Blueprint, sandbox: Sandbox) -> None:
    @pages.get("/faults")
    def faults() -> Response:
        with sandbox.lock:
            return jsonify(faults=sandbox.faults.shown())

    @pages.post("/faults")
    def add_fault() -> tuple[Response, int]:
        fields = dict(table_of())
        kind = str(fields.pop("kind", ""))
        with sandbox.lock:
            fault = sandbox.faults.add(kind, **fields)
        return jsonify(id=fault.id, kind=fault.kind), 201

    @pages.delete("/faults")
    def clear_faults() -> Response:
        with sandbox.lock:
            sandbox.faults.clear()
        return jsonify(faults=[])

    @pages.get("/clock")
    def clock() -> Response:
        return jsonify(now=sandbox.clock.now(), offset_seconds=sandbox.clock.offset)

    @pages.post("/clock")
    def move_clock() -> Response:
        body = table_of()
        if "now" in body:
            sandbox.set_clock(_number(body["now"], "now"))
        else:
            sandbox.advance(_number(body.get("advance_seconds"), "advance_seconds"))
        return clock()


def _requests(pages: Blueprint, sandbox: Sandbox) -> None:
    @pages.get("/requests")
    def requests() -> Response:
        with sandbox.lock:
            found = list(_matching(sandbox.log, request.args.get("method"), request.args.get("path")))
        return jsonify(count=len(found), requests=found)

    @pages.delete("/requests")
    def forget_requests() -> Response:
        with sandbox.lock:
            sandbox.log.clear()
        return jsonify(count=0)


def _deliveries(pages: Blueprint, sandbox: Sandbox) -> None:
    @pages.get("/deliveries")
    def deliveries() -> Response:
        status, event = request.args.get("status"), request.args.get("event")
        with sandbox.lock:
            found = [
                one
                for one in sandbox.store.newest_first("delivery")
                if status in (None, one["status"]) and event in (None, one["event"])
            ]
        return jsonify(count=len(found), settings=sandbox.deliveries.settings.shown(), deliveries=found[:1000])

    @pages.post("/deliveries")
    def change_deliveries() -> Response:
        """`event` (or `events`) is delivered again; everything else is a setting."""
        body = dict(table_of())
        events = [*body.pop("events", []), *([body.pop("event")] if "event" in body else [])]
        count = 0
        with sandbox.lock:
            sandbox.deliveries.settings.update(body)
            for id in events:
                try:
                    count += sandbox.deliveries.again(id)
                except KeyError:
                    raise ApiError(404, f"No such event: '{id}'") from None
            sandbox.store.commit()
        sandbox.deliveries.nudge()
        return jsonify(redelivered=count, settings=sandbox.deliveries.settings.shown())

    @pages.post("/webhook_endpoints")
    def configure_endpoint() -> tuple[Response, int]:
        """`url` with `secret` or `secrets`: both old and new sign while a secret is rolled. `thin`: it is sent thin
        notifications."""
        body = table_of()
        secrets = body.get("secrets") or [body.get("secret")]
        if not isinstance(body.get("url"), str) or not all(isinstance(one, str) and one for one in secrets):
            raise ApiError(400, "url and secret (or secrets) are required.")
        with sandbox.calling() as call:
            types, thinly = body.get("enabled_events"), body.get("thin") is True
            one = webhooks.configured(call, body["url"], list(secrets), types, thinly=thinly)
        return jsonify(visible(one)), 201

    @pages.post("/thin_events")
    def announce() -> tuple[Response, int]:
        """A thin event that exists in v2 only: `type`, and if wanted `data` and `related_object` ({id, type, url})."""
        body = table_of()
        if not isinstance(body.get("type"), str):
            raise ApiError(400, "type is required.")
        with sandbox.calling() as call:
            event = thin.announce(call, body["type"], named=body.get("related_object"), data=body.get("data"))
        return jsonify(thin.shown(event)), 201


def _buyers(pages: Blueprint, sandbox: Sandbox) -> None:
    @pages.post("/checkout_sessions/<id>/pay")
    def pay(id: str) -> Response:
        body = table_of()
        card = str(body.get("card", "pm_card_visa"))
        wait = float(body.get("wait_seconds", 0))
        return jsonify(sandbox.pay(id, delayed=bool(body.get("delayed")), card=card, wait=wait))

    @pages.post("/checkout_sessions/<id>/decline")
    def decline(id: str) -> Response:
        return jsonify(sandbox.decline(id))

    @pages.post("/checkout_sessions/<id>/challenge")
    def challenge(id: str) -> Response:
        return jsonify(sandbox.challenge(id))

    @pages.post("/checkout_sessions/<id>/authenticate")
    def authenticate(id: str) -> Response:
        return jsonify(sandbox.authenticate(id, succeeds=table_of().get("succeeds", True) is not False))

    @pages.post("/checkout_sessions/<id>/settle")
    def settle(id: str) -> Response:
        return jsonify(sandbox.settle(id, succeeds=table_of().get("succeeds", True) is not False))

    @pages.post("/subscriptions/<id>/status")
    def status(id: str) -> Response:
        return jsonify(sandbox.force_status(id, str(table_of().get("status"))))

    @pages.post("/charges/<id>/dispute")
    def dispute(id: str) -> Response:
        return jsonify(sandbox.dispute(id, str(table_of().get("status", "needs_response"))))


def _is_own(host: str, public_url: str | None) -> bool:
    """Whether no page's owner decides where this name leads: an address, a name without a dot, or our public one."""
    try:
        return bool(ip_address(host))
    except ValueError:
        return "." not in host or host == urlsplit(public_url or "").hostname


def _matching(log: Any, method: str | None, path: str | None) -> Iterator[Json]:
    for one in log:
        if method in (None, one["method"]) and (path is None or one["path"].startswith(path)):
            yield one


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(400, f"{name} must be a number.")
    return float(value)
