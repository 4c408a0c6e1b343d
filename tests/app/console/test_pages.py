"""What the console shows and does, over a real ledger."""

import hashlib
import html
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask, url_for

from app.console.overview import SHOWN_AT
from billing.coordination.jobs import SyncCustomers
from billing.customers.store import find_owner
from billing.models import customers
from billing.operators.audit import list_audit
from billing.operators.find import find
from billing.operators.listing import Wanted
from tests.app.console.conftest import Browser, text_of
from tests.support.builders import SECRET, build_event, deliver
from tests.support.checkout_world import World
from tests.support.receiving import receive

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture
def ann(world: World) -> str:
    """A user who bought; their Stripe customer."""
    world.ask(user="ann")
    world.work()
    (hit,) = find("ann", database=world.database)
    assert hit.customer_id
    return hit.customer_id


def test_first_page_says_what_is_worst_and_what_mends_it(console: Browser) -> None:
    text = text_of(console, "/console/")
    assert "No worker takes the queue checkout" in text
    assert "onelane worker --queues checkout" in text


def test_part_of_the_first_page_is_what_changes(console: Browser) -> None:
    part = console.get(headers={"HX-Request": "true"}).get_data(as_text=True)
    assert "<html" not in part
    assert "No worker takes the queue checkout" in part


def test_part_that_is_asked_for_after_the_session_ended_leads_to_the_login(make_console: Callable[..., Flask]) -> None:
    answer = Browser(make_console()).get(headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Refresh"]) == (204, "true")


def test_trouble_leads_to_the_page_that_shows_it(console: Browser, world: World) -> None:
    """CON-15: here, who waits."""
    world.ask(user="ann")
    world.clock.advance(minutes=5)
    assert '<a href="/console/checkouts">Show who waits</a>' in text_of(console, "/console/")
    text = text_of(console, "/console/checkouts")
    assert "/console/customer?user=ann" in text
    assert "5\u00a0min ago" in text
    assert "onelane locks list" in text


@pytest.mark.parametrize("subject", [name for name in SHOWN_AT if name != "incident"])
def test_page_of_a_trouble_can_be_shown(console: Browser, subject: str) -> None:
    """CON-15"""
    _label, endpoint, values = SHOWN_AT[subject]
    with console.client.application.test_request_context():
        address = url_for(endpoint, **values)
    assert text_of(console, address)


def test_search_jumps_to_a_single_hit(console: Browser, ann: str) -> None:
    """CON-13"""
    for text in ("ann", f" {ann} "):
        assert console.get(f"/console/find?q={text}").headers["Location"] == "/console/customer?user=ann"


def test_search_lists_several_hits(console: Browser, world: World, ann: str) -> None:
    """CON-13"""
    world.ask(user="bob")
    (session,) = [one["id"] for one in world.objects("checkout_session")]
    hits = find(session, database=world.database)
    assert len(hits) > 1
    text = text_of(console, f"/console/find?q={session}")
    for hit in hits:
        assert hit.id in text
    assert "/console/customer?user=ann" in text


@pytest.mark.parametrize("text", ["", "nobody", HOSTILE, "x" * 5000, "\x00", "%", "req_x"])
def test_search_for_what_nobody_has_says_so(console: Browser, text: str) -> None:
    """CON-10, CON-13"""
    answer = console.open("/console/find", query_string={"q": text})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.get_data(as_text=True)


def test_customer_is_shown_with_why(console: Browser, ann: str) -> None:
    text = text_of(console, "/console/customer?user=ann")
    assert "Has no access" in text
    assert ann in text
    assert "asked for standard" in text


@pytest.mark.parametrize("user", ["ann", "auth0|5f/é x"])
def test_customers_page_is_at_the_address_that_names_them(console: Browser, world: World, user: str) -> None:
    """CON-16"""
    world.ask(user=user)
    assert "asked for standard" in text_of(console, f"/console/customers/{quote(user)}")
    assert console.get("/console/customers/nobody").status_code == 404


def test_text_from_outside_is_shown_as_text(console: Browser, world: World) -> None:
    """CON-10"""
    world.ask(user=HOSTILE)
    world.work()
    text = console.open("/console/customer", query_string={"user": HOSTILE}).get_data(as_text=True)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


def test_page_runs_and_loads_its_own_files_only_and_is_not_stored(console: Browser, ann: str) -> None:
    """CON-10"""
    for path in ("/console/", "/console/find", "/console/customer?user=ann", "/console/nowhere"):
        answer = console.get(path)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert answer.headers["Cache-Control"] == "no-store"
        text = answer.get_data(as_text=True)
        assert " style=" not in text
        assert not re.findall(r"<script(?![^>]* src=)|\son[a-z]+=", text)
        elsewhere = [link for link in re.findall(r'(?:src|href|action)="([^"]+)"', text) if "//" in link]
        assert all(link.startswith("https://dashboard.stripe.com/") for link in elsewhere)


def test_unknown_page_and_user_are_a_page_that_says_so(console: Browser) -> None:
    for path in ("/console/nowhere", "/console/customer?user=nobody"):
        answer = console.get(path)
        assert answer.status_code == 404
        assert answer.mimetype == "text/html"


BUTTONS = {
    "compare": "onelane customers sync ann --reason",
    "replay": "onelane events replay --customer {customer} --reason",
    "resend": "onelane notifications resend --customer {customer} --reason",
}


@pytest.mark.parametrize("name", BUTTONS)
def test_button_shows_its_command_and_leaves_a_row_in_the_audit_log(
    console: Browser, world: World, ann: str, name: str
) -> None:
    """CON-9, CON-11: and is led back to a page that says what came of it; twice does no harm."""
    command = BUTTONS[name].format(customer=ann)
    page = "/console/customer?user=ann"
    assert command in text_of(console, page)
    assert not list_audit(Wanted(9), database=world.database)
    for _ in range(2):
        pressed = console.post(f"/console/customer/{name}", page=page, user="ann", reason="they have no access")
        assert pressed.status_code == 303
    newest, _first = list_audit(Wanted(9), database=world.database)
    assert newest["who"] == "ann from 127.0.0.1"
    assert newest["reason"] == "they have no access"
    assert newest["outcome"]
    assert command.startswith(f"onelane {newest['command']}")
    assert newest["outcome"] in text_of(console, pressed.headers["Location"])


@pytest.mark.parametrize("reason", ["", "   "])
def test_button_without_a_reason_does_nothing(console: Browser, world: World, ann: str, reason: str) -> None:
    """CON-9"""
    page = "/console/customer?user=ann"
    assert console.post("/console/customer/compare", page=page, user="ann", reason=reason).status_code == 422
    assert not list_audit(Wanted(9), database=world.database)


def test_failed_button_is_in_the_audit_log_too(console: Browser, world: World) -> None:
    """CON-9"""
    assert console.post("/console/customer/compare", user="nobody", reason="why not").status_code == 404
    (row,) = list_audit(Wanted(9), database=world.database)
    assert row["outcome"] == "failed: not_found"


def test_what_a_person_did_is_in_the_timeline_of_whom_it_was_about(console: Browser, world: World, ann: str) -> None:
    world.ask(user="annika")
    for user, reason in (("ann", "the first doubt"), ("annika", "the second doubt")):
        world.work()
        console.post("/console/customer/compare", user=user, reason=reason)
    text = text_of(console, "/console/customer?user=ann")
    assert "customers sync by ann from 127.0.0.1 (the first doubt)" in text
    assert "the second doubt" not in text


def test_comparing_is_a_job_of_a_worker(console: Browser, world: World, ann: str) -> None:
    """CON-9: the web holds no Stripe key."""
    before = world.requests()
    console.post("/console/customer/compare", page="/console/customer?user=ann", user="ann", reason="a doubt")
    assert world.requests() == before
    with world.database.read() as connection:
        owner = find_owner(connection, ann)
    assert owner
    assert owner.sync_asked
    assert SyncCustomers() in world.queue.sent
    world.work()
    assert len(world.requests()) > len(before)


def test_no_page_shows_the_address_of_a_payment_page_or_an_email(console: Browser, world: World) -> None:
    """CON-20: whatever page, by every link that leads to one."""
    checkout = world.served(user="ann")
    assert checkout.url
    email = "ann@secret.example"
    with world.database.write() as connection:
        connection.execute(sa.update(customers).values(parameters={"email": email}))
    customer = {**world.objects("customer")[0], "email": email}
    (hit,) = find(hashlib.sha256(email.encode()).hexdigest(), database=world.database)
    assert hit.user_id == "ann", "the ledger has it"
    body, header = deliver(build_event("customer.updated", customer), at=world.clock.now())
    receive(
        body, header, secrets=[SECRET], max_bytes=1 << 20, database=world.database, queue=world.queue, clock=world.clock
    )
    waiting, seen = ["/console/", f"/console/find?q={checkout.session_id}", "/console/customer?user=ann"], set()
    while waiting:
        path = waiting.pop(0)
        if path in seen or not path.startswith("/console") or path.startswith("/console/static/"):
            continue
        seen.add(path)
        text = html.unescape(console.get(path, follow_redirects=True).get_data(as_text=True))
        assert checkout.url not in text, path
        assert "secret.example" not in text, path
        waiting += re.findall(r'href="([^"]+)"', text)
    assert {path.partition("?")[0] for path in seen} > {"/console/event", "/console/customer", "/console/setup"}
