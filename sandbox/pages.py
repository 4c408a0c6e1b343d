"""The hosted payment page: what a buyer sees at a session's `url`. Three ways on: pay, be declined, leave; or pay with
a card whose bank asks the buyer first, on a page of its own, and either lets the payment through or not.

Plain forms and no JavaScript. The pages are never cached, and say on top that no money moves.
"""

from datetime import UTC, datetime
from urllib.parse import quote

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from .cards import DECLINED
from .core import Sandbox
from .errors import ApiError, Json

_WAIT_SECONDS = 10.0  # so long Checkout waits for the answer to checkout.session.completed
_SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}
NOT_AUTHENTICATED = "Your bank could not confirm that it was you."
_WITHOUT_CENTS = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)


def blueprint(sandbox: Sandbox) -> Blueprint:
    pages = Blueprint("pages", __name__, template_folder="templates")

    @pages.get("/pay/<id>")
    def show(id: str) -> Response:
        return _show(sandbox, id)

    @pages.get("/link/<id>")
    def link(id: str) -> BaseResponse:
        try:
            session = sandbox.visit_link(id, base_url=request.host_url.rstrip("/"))
        except ApiError:
            return _page("message.html", 404, title="No such payment link", words="It is no longer active.")
        return redirect(session["url"], 303)

    @pages.post("/pay/<id>/pay")
    def pay(id: str) -> BaseResponse:
        try:
            done = sandbox.pay(id, wait=_WAIT_SECONDS)
        except ApiError:  # it is no longer open, or never was: the page says which
            return _show(sandbox, id, status=409)
        return _paid(done)

    @pages.post("/pay/<id>/decline")
    def decline(id: str) -> Response:
        try:
            sandbox.decline(id)
        except ApiError:
            return _show(sandbox, id, status=409)
        return _show(sandbox, id, declined=DECLINED, status=402)

    @pages.post("/pay/<id>/challenge")
    def challenge(id: str) -> BaseResponse:
        try:
            sandbox.challenge(id)
        except ApiError:
            return _show(sandbox, id, status=409)
        return redirect(f"/pay/{quote(id)}/authenticate", 303)

    @pages.get("/pay/<id>/authenticate")
    def asked(id: str) -> BaseResponse:
        session = sandbox.session(id)
        if session is None or session["status"] != "open" or session["_subscription"] is None:
            return _show(sandbox, id)
        amount = money(session["amount_total"], session["currency"])
        return _page("bank.html", id=id, amount=amount, shop=_shop_of(session))

    @pages.post("/pay/<id>/authenticate")
    def authenticate(id: str) -> BaseResponse:
        try:
            done = sandbox.authenticate(id, succeeds=request.form.get("answer") == "yes", wait=_WAIT_SECONDS)
        except ApiError:  # expired while the bank asked: nothing is paid
            return _show(sandbox, id, status=409)
        if done["status"] != "complete":
            return _show(sandbox, id, declined=NOT_AUTHENTICATED, status=402)
        return _paid(done)

    @pages.post("/pay/<id>/leave")
    def leave(id: str) -> BaseResponse:
        session = sandbox.session(id)
        if session is not None and session["cancel_url"]:
            return redirect(session["cancel_url"].replace("{CHECKOUT_SESSION_ID}", quote(id)), 303)
        return _page(
            "message.html", title="See you", words="You left without paying. The page you came from has the way back."
        )

    return pages


def _paid(done: Json) -> BaseResponse:
    id = quote(done["id"])
    return redirect((done["success_url"] or f"/pay/{id}").replace("{CHECKOUT_SESSION_ID}", id), 303)


def _shop_of(session: Json) -> str:
    return str(session["_lines"][0]["description"])


def _show(sandbox: Sandbox, id: str, *, declined: str | None = None, status: int = 200) -> Response:
    session = sandbox.session(id)
    if session is None:
        return _page(
            "message.html",
            404,
            title="No such payment page",
            words="Check the link, or go back to the shop and start again.",
        )
    if session["status"] == "expired":
        return _page(
            "message.html",
            410 if status == 200 else status,
            title="This payment page has expired",
            words="Nothing was charged. Go back to the shop to start again.",
            back=session["cancel_url"],
        )
    if session["status"] == "complete":
        done = (session["success_url"] or "").replace("{CHECKOUT_SESSION_ID}", quote(id)) or None
        return _page(
            "message.html",
            status,
            title="This has been paid",
            words="You are done here: there is nothing left to pay on this page.",
            back=done,
            done=True,
        )
    with sandbox.calling(livemode=session["livemode"]) as call:
        customer = call.find("customer", session["customer"]) or {}
        coupon = call.find("coupon", session["discounts"][0]["coupon"]) if session["discounts"] else None
    email = customer.get("email") or session["customer_email"]
    view = _view(session, coupon, int(sandbox.clock.now()))
    return _page("pay.html", status, id=id, email=email, declined=declined, **view)


def _page(template: str, status: int = 200, **values: object) -> Response:
    response = make_response(render_template(template, **values), status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    )
    return response


def _view(session: Json, coupon: Json | None, now: int) -> Json:
    """What the template says, in words."""
    currency = session["currency"]
    data = session["_subscription_data"]
    begins = data.get("trial_end") or data.get("billing_cycle_anchor")
    if data.get("trial_period_days"):
        begins = now + data["trial_period_days"] * 86400
    lines = [
        {
            "name": line["description"],
            "quantity": line["quantity"],
            "each": money(line["price"]["unit_amount"], currency),
            "amount": money(line["amount_subtotal"], currency),
            "rhythm": rhythm(line["price"]["recurring"]),
        }
        for line in session["_lines"]
    ]
    subtotal = sum(line["amount_subtotal"] for line in session["_lines"])
    off = sum(line["amount_discount"] for line in session["_lines"])
    recurring = session["mode"] == "subscription"
    name = lines[0]["name"] if len(lines) == 1 else f"{lines[0]['name']} and {len(lines) - 1} more"
    trying = begins is not None and not data.get("billing_cycle_anchor")
    if trying:
        verb, heading = "Start trial", f"Try {name}"
    elif recurring:
        verb, heading = "Subscribe", f"Subscribe to {name}"
    else:
        verb, heading = "Pay", f"Pay for {name}"
    return {
        "lines": lines,
        "subtotal": money(subtotal, currency),
        "discount": money(off, currency) if coupon else None,
        "coupon": (coupon["name"] or coupon["id"]) if coupon else None,
        "coupon_words": _coupon_words(coupon, currency) if coupon else None,
        "later": money(subtotal if coupon and coupon["duration"] == "once" else subtotal - off, currency),
        "rhythm": lines[0]["rhythm"],
        "renews": lines[0]["rhythm"].replace("per ", "every "),
        "trial": datetime.fromtimestamp(begins, UTC).strftime("%-d %B %Y") if begins else None,
        "is_trial": trying,
        "prorated": begins is not None and not trying and session["amount_total"] > 0,
        "total": money(session["amount_total"], currency),
        "recurring": recurring,
        "can_be_asked": recurring and session["amount_total"] > 0,  # whether there is anything to authenticate today
        "verb": verb,
        "heading": heading,
    }


def money(amount: int, currency: str) -> str:
    symbol = _SYMBOLS.get(currency, f"{currency.upper()} ")
    return f"{symbol}{amount:,}" if currency in _WITHOUT_CENTS else f"{symbol}{amount / 100:,.2f}"


def rhythm(recurring: Json | None) -> str:
    if recurring is None:
        return ""
    count, interval = recurring["interval_count"], recurring["interval"]
    return f"per {interval}" if count == 1 else f"every {count} {interval}s"


def _coupon_words(coupon: Json, currency: str) -> str:
    off = (
        f"{coupon['percent_off']:g}% off"
        if coupon["percent_off"] is not None
        else f"{money(coupon['amount_off'], currency)} off"
    )
    match coupon["duration"]:
        case "once":
            return f"{off} the first payment"
        case "repeating":
            return f"{off} for {coupon['duration_in_months']} months"
        case _:
            return f"{off} every payment"
