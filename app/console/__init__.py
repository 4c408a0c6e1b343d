"""The console at /console: what the operators' commands show and do, as pages. No SQL, no rules, no Stripe key.

To add a page:
1 a module `app/console/NAME.py` with `add_pages(routes, services)`, which adds its routes to the blueprint; it is named
  in PAGES. `overview.py` is the pattern for a page, `customer.py` for one with buttons.
2 a template `templates/console/NAME.html` that extends `console/base.html` and imports `console/parts.html`: tables,
  times, ages, ids as links, states, buttons. Styles are in `static/console.css`: no `style=`, no inline script.
3 its line in NAVIGATION, where it has one.
4 what it shows comes from a query of `billing/operators`, the one that the command uses. What it changes goes through
  `app/console/actions.py`: POST, a reason, a row in the audit log, a redirect. What needs Stripe is a job.
Everything under /console is behind the login, whatever a page does, and no GET changes anything (CON-2, CON-3).
"""

from typing import TYPE_CHECKING

from flask import Blueprint, Response, g, render_template, request, url_for
from werkzeug.exceptions import HTTPException, NotFound

from app.console import (
    audit,
    charts,
    checkouts,
    customer,
    events,
    incidents,
    notifications,
    overview,
    runs,
    search,
    setup,
)
from app.console.login import add_login
from app.console.passwords import Passwords, derive_key
from app.console.shown import filters
from app.console.visitor import Visitors, form_token, keep_seed
from app.errors.problems import PROBLEMS
from app.errors.rendering import refusal
from billing.errors import OnelaneError
from billing.services import Services

if TYPE_CHECKING:
    from app.limits.rates import RateLimit

PATH = "/console"
PAGES = (
    overview, charts, search, checkouts, customer, events, notifications, incidents, runs, audit, setup
)  # fmt: skip
NAVIGATION = (
    ("Now", "console.now"),
    ("Checkouts", "console.checkouts"),
    ("Events", "console.events"),
    ("Dead", "console.dead"),
    ("Notifications", "console.notifications"),
    ("Incidents", "console.incidents"),
    ("Runs", "console.runs"),
    ("Audit", "console.audit"),
    ("Setup", "console.setup"),
)
OPEN = {"console.login", "console.log_in", "console.log_out"}


def console_routes(services: Services, *, logins: "RateLimit") -> Blueprint:
    """The console, where a setting says how to log in. `logins` is the rate of tries."""
    settings = services.settings
    given = (settings.console_password, settings.console_viewer_password)
    writer, viewer = (derive_key(secret.get_secret_value()) if secret else None for secret in given)
    visitors = Visitors(services, writer=writer, viewer=viewer, header=settings.console_user_header)
    passwords = Passwords(visitors.keys, rate=logins, clock=services.clock)

    routes = Blueprint(
        "console",
        __name__,
        url_prefix=PATH,
        template_folder="templates",
        static_folder="static",
        static_url_path="/static",
    )

    @routes.before_request
    def admit() -> Response | None:
        g.is_part = "HX-Request" in request.headers
        if request.endpoint == "console.static":
            return None
        return visitors.admit(is_open=request.endpoint in OPEN)

    routes.after_request(keep_seed)
    routes.after_request(_private)
    routes.context_processor(lambda: {"navigation": NAVIGATION, "form_token": form_token, "visitor": g.get("visitor")})
    routes.register_error_handler(OnelaneError, _refused)
    routes.register_error_handler(HTTPException, _refused)
    routes.record(lambda state: state.app.jinja_env.filters.update(filters(services.clock)))
    add_login(routes, services, visitors=visitors, passwords=passwords)
    for module in PAGES:
        module.add_pages(routes, services)

    @routes.route("/<path:anything>", methods=["GET", "POST"])
    def nowhere(anything: str) -> Response:
        del anything
        raise NotFound

    return routes


def _private(answer: Response) -> Response:
    if request.endpoint != "console.static":
        answer.cache_control.no_store = True
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return answer


def _refused(error: Exception) -> Response:
    """An error as a page: the sentence that commands show, and the request's id."""
    if isinstance(error, HTTPException):
        status, sentence, headers = error.code or 500, PROBLEMS["not_found"].title, {}
        if status != 404:
            sentence = error.description or error.name
    else:
        rendered = refusal(error, request_id=g.request_id)
        status, sentence = rendered.status, getattr(error, "for_operator", str(error))
        headers = {name: value for name, value in rendered.headers.items() if name == "Retry-After"}
    page = render_template("console/error.html", sentence=sentence, request_id=g.request_id, home=url_for(".now"))
    return Response(page, status=status, headers=headers, content_type="text/html; charset=utf-8")
