"""The billing portal's page: a customer cancels a subscription at its end, or takes that back."""

from datetime import UTC, datetime
from urllib.parse import quote

from flask import Blueprint, Response, abort, redirect, render_template
from werkzeug.wrappers import Response as BaseResponse

from . import subscription_changes, subscriptions
from .calls import Call
from .core import Sandbox
from .errors import Json
from .subscription_objects import ENDED

_OPEN_SECONDS = 86400
_CANCEL_WORDS = {"at_period_end": "Cancel at the end of the period", "immediately": "Cancel now"}
# In flexible billing mode the portal sets a date, the latest end of all items, and leaves `cancel_at_period_end` false.
_CHANGES: dict[tuple[str, str], Json] = {
    ("cancel", "flexible"): {"cancel_at": "max_period_end"},
    ("cancel", "classic"): {"cancel_at_period_end": True},
    ("resume", "flexible"): {"cancel_at": None},
    ("resume", "classic"): {"cancel_at_period_end": False},
}


def blueprint(sandbox: Sandbox) -> Blueprint:
    pages = Blueprint("portal", __name__, template_folder="templates")

    @pages.get("/portal/<secret>")
    def show(secret: str) -> Response:
        session = _session(sandbox, secret)
        with sandbox.calling(livemode=session["livemode"]) as call:
            found = [
                _shown(call, one)
                for one in call.store.newest_first("subscription", customer=session["customer"])
                if one["status"] not in ENDED
            ]
            words = _CANCEL_WORDS.get(_cancels(call, session) or "")
        page = Response(
            render_template("portal.html", secret=secret, subscriptions=found, back=session["return_url"], cancel=words)
        )
        page.headers["Cache-Control"] = "no-store"
        page.headers["Referrer-Policy"] = "no-referrer"
        return page

    @pages.post("/portal/<secret>/<subscription>/<any(cancel, resume):action>")
    def change(secret: str, subscription: str, action: str) -> BaseResponse:
        session = _session(sandbox, secret)
        with sandbox.calling(livemode=session["livemode"]) as call:
            one = call.find("subscription", subscription)
            if one is None or one["customer"] != session["customer"] or one["status"] in ENDED:
                abort(404)
            if one["schedule"]:
                abort(409)  # Stripe's page offers no change either while a schedule governs it
            if action == "cancel" and (mode := _cancels(call, session)) != "at_period_end":
                if mode is None:
                    abort(403)
                subscriptions.cancel(call, {"id": subscription})
                return redirect(f"/portal/{quote(secret)}", 303)
            subscription_changes.update(call, {"id": subscription, **_CHANGES[action, one["billing_mode"]["type"]]})
        return redirect(f"/portal/{quote(secret)}", 303)

    return pages


def _session(sandbox: Sandbox, secret: str) -> Json:
    with sandbox.calling() as call:
        known = call.store.get("portal_secret", secret)
        session = call.store.get("portal_session", known["session"]) if known else None
        if session is None or session["created"] + _OPEN_SECONDS < call.wall:
            abort(404)
        return session


def _cancels(call: Call, session: Json) -> str | None:
    """How the session's configuration lets a customer cancel; None where it does not."""
    configuration = call.store.get("billing_portal_configuration", session["configuration"])
    feature = configuration["features"]["subscription_cancel"] if configuration else {"enabled": False}
    return str(feature["mode"]) if feature["enabled"] else None


def _shown(call: Call, one: Json) -> Json:
    item = one["items"]["data"][0]
    product = call.store.get("product", item["price"]["product"]) or {"name": "Subscription"}
    end = datetime.fromtimestamp(item["current_period_end"], UTC)
    return {
        "id": one["id"],
        "name": product["name"],
        "status": one["status"].replace("_", " "),
        "leaving": one["cancel_at"] is not None,
        "end": end.strftime("%-d %B %Y"),
    }
