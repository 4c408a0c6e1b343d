"""The demo shop of `onelane dev`: a page as an application would build it, on /v1 with a buyer's token.

It is served only on request (`create_app(shop=True)`). It signs tokens for its made-up users, `demo-…`, and no others.
Everything else goes through the public API (API-60 to API-62).
"""

import re
import secrets
from dataclasses import dataclass

from flask import Blueprint, Response, redirect, render_template, request, url_for

from app.dev.tokens import sign_token
from app.errors.problems import Forbidden
from billing.catalog import Plan
from billing.errors import ConfigurationError
from billing.operators import installation
from billing.process.settings import Settings
from billing.rules.money import decimals
from billing.services import Services

COOKIE = "onelane_demo_user"
_DEMO_USER = re.compile(r"demo-[0-9a-f]{8}")
_SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan in words."""

    key: str
    name: str
    description: str
    price: str
    period: str
    note: str
    coupon: str | None


def shop_routes(settings: Settings, services: Services) -> Blueprint:
    """GET /, GET /shop and POST /shop/new. Raises ConfigurationError without AUTH_JWT_SECRET."""
    if settings.auth_jwt_secret is None:
        raise ConfigurationError("The shop page signs its own tokens. Set AUTH_JWT_SECRET, or run without the shop.")
    offers = [offer(plan) for plan in services.catalog.plans.values()]
    routes = Blueprint(
        "shop", __name__, template_folder="templates", static_folder="static", static_url_path="/shop/static"
    )

    @routes.before_request
    def refuse_real_money() -> None:
        with services.database.read() as connection:
            bound = installation.read(connection)
        if bound is not None and bound.livemode:  # the web holds no key to see it by
            raise Forbidden("This ledger is about real money, and the shop signs anybody in. Unset ONELANE_SHOP.")

    @routes.get("/")
    def home() -> Response:
        return _redirect("/shop", 302)

    @routes.get("/shop")
    def show() -> Response:
        known = request.cookies.get(COOKIE, "")
        user_id = known if _DEMO_USER.fullmatch(known) else _new_user()
        page = render_template(
            "shop.html",
            product=services.catalog.name,
            offers=offers,
            user_id=user_id,
            token=_token(user_id),
            styles=url_for(".static", filename="shop.css"),
            script=url_for(".static", filename="shop.js"),
            client=url_for(".static", filename="onelane.js"),
        )
        return _with_user(Response(page, content_type="text/html; charset=utf-8"), user_id)

    @routes.post("/shop/new")
    def become_somebody_new() -> Response:
        return _with_user(_redirect("/shop", 303), _new_user())

    def _token(user_id: str) -> str:
        email = f"{user_id}@example.com"
        return sign_token(user_id, settings=settings, now=services.clock.now(), email=email)

    return routes


def offer(plan: Plan) -> Offer:
    every = plan.interval if plan.interval_count == 1 else f"{plan.interval_count} {plan.interval}s"
    note = ""
    if plan.amount is not None and plan.currency and plan.interval_count > 1:
        note = f"{money(round(plan.amount / plan.interval_count), plan.currency)} a {plan.interval}"
    elif plan.coupon and plan.coupon_text and plan.coupon_for == "first_time":
        note = "The offer is for first-time buyers"
    return Offer(
        key=plan.key,
        name=plan.name,
        description=plan.description,
        price=money(plan.amount, plan.currency) if plan.amount is not None and plan.currency else "",
        period=f"every {every}" if plan.interval_count > 1 else f"a {every}",
        note=note,
        coupon=plan.coupon_text if plan.coupon else None,
    )


def money(amount: int, currency: str) -> str:
    """An amount in the smallest unit, as people write it: 900 usd is $9, 950 usd is $9.50."""
    sign, places = _SIGNS.get(currency, f"{currency.upper()} "), decimals(currency)
    whole, rest = divmod(amount, 10**places)
    return f"{sign}{whole:,}" + (f".{rest:0{places}}" if rest else "")


def _new_user() -> str:
    return f"demo-{secrets.token_hex(4)}"


def _with_user(answer: Response, user_id: str) -> Response:
    answer.set_cookie(COOKIE, user_id, max_age=30 * 86_400, httponly=True, samesite="Lax", path="/shop")
    answer.cache_control.no_store = True  # the page carries a token
    return answer


def _redirect(address: str, code: int) -> Response:
    answer = redirect(address, code)
    assert isinstance(answer, Response)
    return answer
