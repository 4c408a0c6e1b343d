"""Who gets into the console, and who does not."""

import re
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from app.console import passwords
from app.limits import users
from billing.models import metadata
from billing.operators.audit import list_audit
from billing.operators.listing import Wanted
from tests.app.conftest import MakeApp
from tests.app.console.conftest import PASSWORD, TOKEN, VIEWER, Browser
from tests.support.checkout_world import World

MakeConsole = Callable[..., Flask]


def addresses(app: Flask, method: str) -> Iterator[str]:
    """The console's addresses that take this method."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/console") and method in (rule.methods or ()):
            yield re.sub(r"<[^>]+>", "x", rule.rule)


def test_without_a_password_there_is_no_console(make_app: MakeApp) -> None:
    """CON-1"""
    browser = Browser(make_app())
    unknown = browser.get("/nowhere")
    for path in ("/console", "/console/", "/console/login", "/console/static/console.css", "/console/customer?user=x"):
        for method in ("GET", "POST"):
            answer = browser.open(path, method=method)
            assert answer.status_code == unknown.status_code == 404, path
            assert answer.mimetype == unknown.mimetype == "application/problem+json"


def test_without_a_login_nothing_is_shown_and_nothing_done(make_console: MakeConsole) -> None:
    """CON-2: every address of the map."""
    app = make_console()
    browser = Browser(app)
    for path in addresses(app, "GET"):
        answer = browser.get(path)
        if path in ("/console/login", "/console/static/x"):
            continue
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/console/login?next="), path
    for path in addresses(app, "POST"):
        assert browser.post(path, page="/console/login").status_code in (303 if path.endswith("logout") else 403,), path


def test_login_leads_back_to_the_page_that_was_asked_for_and_to_no_other_site(make_console: MakeConsole) -> None:
    app = make_console()
    wanted = Browser(app).get("/console/find?q=evt_1").headers["Location"]
    assert wanted == "/console/login?next=/console/find?q%3Devt_1"
    there = Browser(app).log_in(next="/console/find?q=evt_1")
    assert there.headers["Location"] == "/console/find?q=evt_1"
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example", "/consoles", ""):
        assert Browser(app).log_in(next=elsewhere).headers["Location"] == "/console/"


@pytest.mark.parametrize("wrong", ["", "a guess", PASSWORD[:-1], PASSWORD + "x", PASSWORD.upper(), "é" * 5000])
def test_wrong_password_is_told_no_more_than_that(make_console: MakeConsole, wrong: str) -> None:
    """CON-5"""
    browser = Browser(make_console())
    refused = browser.log_in(wrong)
    assert refused.status_code == 403
    assert "That is not the password." in refused.get_data(as_text=True)
    assert wrong == "" or wrong not in refused.get_data(as_text=True)
    assert browser.get().status_code == 303


def test_guessing_waits_longer_each_time_and_looks_at_no_password(
    make_console: MakeConsole, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-5; faults row 72: a thousand guesses of one address are some fifteen looks in an hour."""
    monkeypatch.setattr(users, "LOGINS", "100000/minute")  # this rate is by another clock
    browser = Browser(make_console())
    token = browser.token()
    looked: list[str] = []
    derive = passwords.derive_key
    monkeypatch.setattr(passwords, "derive_key", lambda given: looked.append(given) or derive(given))
    waits = []
    for number in range(1000):
        form = {"form_token": token, "password": f"guess {number}"}
        answer = browser.open("/console/login", method="POST", data=form, environ={"REMOTE_ADDR": "198.51.100.7"})
        assert answer.status_code in (403, 429)
        if answer.status_code == 429:
            waits.append(int(answer.headers["Retry-After"]))
        world.clock.advance(seconds=3.6)
    assert 3 < len(looked) < 20
    assert max(waits) > 400
    assert browser.log_in().status_code == 303, "another address is not kept out"


def test_hundred_guesses_at_once_are_looked_at_one_by_one(make_console: MakeConsole) -> None:
    """CON-5: a try counts before its password is looked at."""
    browser = Browser(make_console())
    statuses = [browser.log_in("wrong").status_code for _ in range(10)]
    assert statuses == [403] * 3 + [429] * 7


def test_right_password_does_not_shorten_the_wait(make_console: MakeConsole, world: World) -> None:
    """CON-5: or else the answer would tell."""
    browser = Browser(make_console())
    for _ in range(3):
        browser.log_in("wrong")
    assert browser.log_in().status_code == 429
    world.clock.advance(seconds=2)
    assert browser.log_in().status_code == 303


def test_logging_out_ends_the_session_whatever_cookie_comes_back(console: Browser) -> None:
    """CON-6"""
    cookie = console.client.get_cookie("onelane_console")
    assert cookie
    assert console.get().status_code == 200
    assert console.post("/console/logout").headers["Location"] == "/console/login"
    assert console.client.get_cookie("onelane_console") is None

    console.client.set_cookie("onelane_console", cookie.value)

    assert console.get().status_code == 303


def test_session_is_over_after_twelve_hours(console: Browser, world: World) -> None:
    """CON-6"""
    world.clock.advance(hours=11, minutes=59)
    assert console.get().status_code == 200
    world.clock.advance(minutes=2)
    assert console.get().status_code == 303


def test_session_holds_in_every_web_and_ends_with_its_password(console: Browser, make_console: MakeConsole) -> None:
    """CON-6: nothing of it is in a process or in Redis."""
    cookie = console.client.get_cookie("onelane_console")
    assert cookie

    def status(**settings: str) -> int:
        other = Browser(make_console(**settings))
        other.client.set_cookie("onelane_console", cookie.value)
        return other.get().status_code

    assert status() == 200
    assert status(console_password="another-password-altogether") == 303


def test_ledger_does_not_hold_what_lets_somebody_in(console: Browser, world: World) -> None:
    """CON-6"""
    cookie = console.client.get_cookie("onelane_console")
    assert cookie
    with world.database.read() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(table.select())]
    assert cookie.value not in str(rows)
    assert PASSWORD not in str(rows)


def test_change_needs_the_pages_own_token(console: Browser) -> None:
    """CON-3; faults row 71: by another site, without a token, with another's."""
    mine = console.token("/console/")
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for data, headers in (
        ({}, {}),
        ({"form_token": "0" * 64}, {}),
        ({"form_token": "é"}, {}),
        ({"form_token": mine}, evil),
    ):
        refused = console.open("/console/customer/compare", method="POST", data={**data, "user": "x"}, headers=headers)
        assert refused.status_code == 403
        assert "not of this page" in refused.get_data(as_text=True)


def test_login_itself_needs_the_pages_own_token(make_console: MakeConsole) -> None:
    """CON-3: nobody is logged in as somebody else by another site."""
    browser = Browser(make_console())
    browser.get("/console/login")
    refused = browser.open("/console/login", method="POST", data={"password": PASSWORD, "form_token": "0" * 64})
    assert refused.status_code == 403
    assert browser.client.get_cookie("onelane_console") is None


def test_reading_changes_nothing(console: Browser, world: World) -> None:
    """CON-3"""
    world.ask(user="ann")

    before = world.everything()
    app = console.client.application
    for path in addresses(app, "GET"):
        assert console.get(f"{path}?user=ann&q=ann").status_code in (200, 303, 404, 422), path
    assert world.everything() == before


def test_viewer_looks_and_changes_nothing(make_console: MakeConsole) -> None:
    """CON-4: every change of the map."""
    app = make_console()
    viewer = Browser(app)
    assert viewer.log_in(VIEWER).status_code == 303
    assert viewer.get().status_code == 200
    for path in addresses(app, "POST"):
        if path not in ("/console/login", "/console/logout"):
            refused = viewer.post(path, user="x", reason="because")
            assert refused.status_code == 403, path
            assert "only look" in refused.get_data(as_text=True), path
    assert viewer.post("/console/logout").status_code == 303


def test_cookie_over_https_is_of_this_host_alone(make_console: MakeConsole) -> None:
    """CON-7"""
    browser = Browser(make_console(), base_url="https://billing.example.com")
    (cookie,) = [line for line in browser.log_in().headers.getlist("Set-Cookie") if "console=" in line]
    assert cookie.startswith("__Host-onelane_console=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    assert browser.get().status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_console_is_shown_over_http_on_this_machine(make_console: MakeConsole, host: str) -> None:
    """CON-7"""
    browser = Browser(make_console(), base_url=f"http://{host}")
    (cookie,) = [line for line in browser.log_in().headers.getlist("Set-Cookie") if "console=" in line]
    assert cookie.startswith("onelane_console=")
    assert "Secure" not in cookie
    assert browser.get().status_code == 200


@pytest.mark.parametrize("host", ["billing.example.com", "10.0.0.7:8000", "localhost.evil.example", "[::1"])
def test_console_is_not_shown_over_http_elsewhere(make_console: MakeConsole, host: str) -> None:
    """CON-7: whoever is on the way reads the cookie."""
    refused = Browser(make_console()).get("/console/login", headers={"Host": host})
    assert refused.status_code == 403
    assert "https" in refused.get_data(as_text=True)
    assert "Set-Cookie" not in refused.headers


PROXY = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def test_proxy_names_who_looks(make_console: MakeConsole) -> None:
    """CON-8"""
    settings = {"console_user_header": "X-Forwarded-User", "trusted_proxies": 1, "console_password": None}
    browser = Browser(make_console(**settings, console_viewer_password=None))
    named = browser.get(headers={**PROXY, "X-Forwarded-User": "ann@example.com"})
    assert named.status_code == 200
    assert "ann@example.com" in named.get_data(as_text=True)
    assert browser.get(headers=PROXY).status_code == 303, "named nobody"
    without = {"X-Forwarded-Proto": "https", "X-Forwarded-User": "ann@example.com"}
    assert browser.get(headers=without).status_code == 303, "did not come through the proxy"


def test_header_logs_nobody_in_where_no_setting_names_it(make_console: MakeConsole) -> None:
    """CON-8"""
    browser = Browser(make_console(trusted_proxies=1))
    assert browser.get(headers={**PROXY, "X-Forwarded-User": "ann@example.com"}).status_code == 303


def test_one_whom_the_proxy_names_presses_a_button_under_that_name(make_console: MakeConsole, world: World) -> None:
    """CON-3, CON-8, CON-9: also without a session a form needs the token of its page."""
    settings = {"console_user_header": "X-Forwarded-User", "trusted_proxies": 1, "console_password": None}
    browser = Browser(make_console(**settings, console_viewer_password=None), base_url="https://billing.example.com")
    named = {**PROXY, "X-Forwarded-User": "ann@example.com"}
    token = TOKEN.search(browser.open("/console/incidents", headers=named).get_data(as_text=True))
    forged = {"user": "nobody", "reason": "why", "form_token": "0" * 64}
    path = "/console/customer/compare"
    assert browser.open(path, method="POST", data=forged, headers=named).status_code == 403
    assert token is None, "who is named by a proxy has no form for logging out"
    world.ask(user="ann")
    world.work()
    token = TOKEN.search(browser.open("/console/customer?user=ann", headers=named).get_data(as_text=True))
    assert token
    form = {"user": "ann", "reason": "why", "form_token": token[1]}
    assert browser.open(path, method="POST", data=form, headers=named).status_code == 303
    (row,) = list_audit(Wanted(9), database=world.database)
    assert row["who"] == "ann@example.com"
    assert browser.open(path, method="POST", data=form, headers=PROXY).status_code == 403, "named by nobody"


def test_session_that_somebody_planted_is_nobodys_after_the_login(make_console: MakeConsole) -> None:
    """CON-6: the cookie is made at the login, and no value from before it lets anybody in."""
    app = make_console()
    victim, stranger = Browser(app), Browser(app)
    for browser in (victim, stranger):
        for name in ("onelane_console", "onelane_console_form"):
            browser.client.set_cookie(name, "planted")
    assert victim.log_in().status_code == 303
    mine = victim.client.get_cookie("onelane_console")
    assert mine is not None
    assert mine.value != "planted"
    assert victim.get().status_code == 200
    assert stranger.get().status_code == 303
    planted = stranger.token("/console/login")
    forged = victim.open("/console/logout", method="POST", data={"form_token": planted})
    assert forged.status_code == 403, "the token of the forms is new, too"
