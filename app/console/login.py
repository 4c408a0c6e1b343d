"""Logging in by a password, and out: POSTs with the page's own token. A wrong password says no more than that."""

from typing import TYPE_CHECKING

import structlog
from flask import Blueprint, Response, g, render_template, request, url_for

from app.console.shown import see_other
from app.console.visitor import SESSION, Visitors, cookie_name, drop_cookie, name_of_visitor, set_cookie
from app.errors.problems import RateLimited
from app.limits.addresses import counted_as, seen_address
from billing.errors import Busy
from billing.operators.console_sessions import begin_session, end_session
from billing.services import Services

if TYPE_CHECKING:
    from app.console.passwords import Passwords

log = structlog.get_logger(__name__)

WRONG = "That is not the password."
LONGEST = 1000  # characters of a password that are looked at


def add_login(routes: Blueprint, services: Services, *, visitors: Visitors, passwords: "Passwords") -> None:
    """GET and POST /console/login, POST /console/logout."""

    @routes.get("/login")
    def login() -> Response:
        return see_other(_wanted()) if g.visitor else _form("", 200)

    @routes.post("/login")
    def log_in() -> Response:
        address = counted_as(seen_address()) or "unknown"
        try:
            key = passwords.check(request.form.get("password", "")[:LONGEST], address)
        except (RateLimited, Busy) as error:
            if isinstance(error, RateLimited):
                return _form(error.sentence, 429, wait=error.retry_after)
            return _form(error.sentence, 503, wait=1)
        if key is None:
            log.warning("console.login_refused", address=address)
            return _form(WRONG, 403)
        who = name_of_visitor(request.form.get("name", ""))
        token = begin_session(who, key, database=services.database, clock=services.clock)
        log.info("console.logged_in", address=address)
        answer = see_other(_wanted())
        set_cookie(answer, SESSION, token)
        return answer

    @routes.post("/logout")
    def log_out() -> Response:
        if token := request.cookies.get(cookie_name(SESSION)):
            end_session(token, visitors.keys, database=services.database)
        answer = see_other(url_for(".login"))
        drop_cookie(answer, SESSION)
        return answer

    def _form(sentence: str, status: int, *, wait: int | None = None) -> Response:
        page = render_template(
            "console/login.html", sentence=sentence, wanted=_wanted(), by_password=bool(visitors.keys)
        )
        answer = Response(page, status=status, content_type="text/html; charset=utf-8")
        if wait:
            answer.headers["Retry-After"] = str(wait)
        return answer


def _wanted() -> str:
    """The page of the console that was asked for; no other address, whatever a link says."""
    given, home = request.values.get("next", ""), url_for(".now")
    return given if given.startswith(home) else home
