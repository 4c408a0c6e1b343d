"""Who looks at the console: known by the session in their cookie, or by the header of a proxy that logs people in.

Every request of the console but the login's comes through `admit`: without a login it is led there, or refused where
it would change something. A change needs the form's token, and someone who may do more than look (CON-3, CON-4).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Response, g, request, url_for

from app.console.shown import printable, see_other
from app.errors.problems import Forbidden
from app.limits.addresses import seen_address
from billing.errors import InvalidRequest
from billing.operators.console_sessions import LIFETIME, read_session
from billing.process.unsafe_settings import is_loopback
from billing.rules.ids import storable
from billing.services import Services

SAFE = ("GET", "HEAD", "OPTIONS")
SESSION, FORM = "onelane_console", "onelane_console_form"
OWN_FORM = "The form is not of this page, or too old. Go back, load the page again, and press once more."
NEEDS_TLS = (
    "The console is shown over https, or on the machine itself. Open it by https; where a proxy ends TLS, set"
    " TRUSTED_PROXIES."
)
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in. `who` is their name in the audit log; forms are sealed with `seed`."""

    who: str
    may_write: bool
    seed: str
    by_proxy: bool = False


class Visitors:
    """Knows visitors. `writer` and `viewer` are the passwords' keys; `header` is what the proxy names people in."""

    def __init__(
        self, services: Services, *, writer: bytes | None, viewer: bytes | None, header: str | None = None
    ) -> None:
        self._services, self._writer, self._header = services, writer, header
        self.keys = [key for key in (writer, viewer) if key is not None]

    def admit(self, *, is_open: bool) -> Response | None:
        """Before every request of the console. `is_open`: it is the login's. Raises Forbidden, LedgerUnavailable."""
        if not is_private_connection():
            raise Forbidden(NEEDS_TLS)
        g.visitor = visitor = self._visitor()
        g.seed = visitor.seed if visitor else request.cookies.get(cookie_name(FORM)) or secrets.token_urlsafe(32)
        changes = request.method not in SAFE
        if visitor is None and not is_open:
            if changes:
                raise Forbidden("You are not logged in, or no longer. Log in, and press once more.")
            return _to_login()
        if changes:
            _require_own_form()
            if not all(map(storable, request.form.values())):
                raise InvalidRequest("The form has a character that cannot be kept, such as a NUL.")
            if visitor is not None and not visitor.may_write and not is_open:
                raise Forbidden("This login may only look.")
        return None

    def _visitor(self) -> Visitor | None:
        if self._header and (name := request.headers.get(self._header, "").strip()) and seen_address():
            seed = request.cookies.get(cookie_name(FORM)) or secrets.token_urlsafe(32)
            return Visitor(printable(name)[:LONGEST_NAME], may_write=True, seed=seed, by_proxy=True)
        token = request.cookies.get(cookie_name(SESSION))
        if not token or not self.keys:
            return None
        session = read_session(token, self.keys, database=self._services.database, clock=self._services.clock)
        return Visitor(session.who, may_write=session.key == self._writer, seed=token) if session else None


def form_token() -> str:
    """What every form of this visitor carries, and no page of another site can know."""
    return hmac.new(g.seed.encode(), b"form", hashlib.sha256).hexdigest()


def keep_seed(answer: Response) -> Response:
    """After every request: who has no session keeps the seed of their forms in a cookie of its own."""
    visitor: Visitor | None = g.get("visitor")
    if "seed" in g and (visitor is None or visitor.by_proxy) and request.cookies.get(cookie_name(FORM)) != g.seed:
        set_cookie(answer, FORM, g.seed)
    return answer


def set_cookie(answer: Response, name: str, value: str) -> None:
    """Set a cookie that only our own pages send, for as long as a session lasts.

    Over https its name begins with `__Host-`, so that no other host can set it. Browsers refuse such a name over http,
    which is taken on this machine only.
    """
    answer.set_cookie(
        cookie_name(name),
        value,
        max_age=int(LIFETIME.total_seconds()),
        path="/",
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )


def drop_cookie(answer: Response, name: str) -> None:
    answer.delete_cookie(cookie_name(name), path="/", secure=request.is_secure, httponly=True, samesite="Lax")


def cookie_name(name: str) -> str:
    return f"__Host-{name}" if request.is_secure else name


def is_private_connection() -> bool:
    """Whether nobody on the way can read the cookie: TLS, or a browser on this machine."""
    if request.is_secure:
        return True
    try:
        return is_loopback(urlsplit(f"//{request.host}").hostname or "")
    except ValueError:  # a Host that is none
        return False


def name_of_visitor(given: str) -> str:
    """How the audit log names somebody who logged in by the password: the name they gave, and from where."""
    said = printable(given)[:LONGEST_NAME]
    return f"{said or 'console'} from {seen_address() or 'an unknown address'}"


def _require_own_form() -> None:
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden(OWN_FORM)
    if not hmac.compare_digest(request.form.get("form_token", "").encode(), form_token().encode()):
        raise Forbidden(OWN_FORM)


def _to_login() -> Response:
    if "HX-Request" in request.headers:  # a part of a page: the page is loaded again, and leads to the login
        return Response(status=204, headers={"HX-Refresh": "true"})
    wanted = request.script_root + request.full_path.rstrip("?")
    return see_other(url_for("console.login", next=wanted))
