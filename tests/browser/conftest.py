"""A real browser in front of a real `onelane dev`: Debian's Chromium, driven by playwright."""

import os
import shutil
from collections.abc import Iterator
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.ports import own_port
from tests.support.running_dev import ROOT, Dev

# Nothing of the browser's own may reach out: what it loads is what the test is about.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium on this machine."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        sentence = "There is no Chromium on this machine (apt install chromium): the browser tests did not run."
        pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for all tests of this run."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield started
        started.close()


@pytest.fixture(scope="session")
def elsewhere(chromium: str) -> Iterator[str]:
    """Another origin: an application with the page of docs/manage.md, and blank pages.

    It writes into that page what the cookies `onelane` and `token` say, in place of a login of its own.
    """

    class Application(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = "text/html", "<!doctype html><title>Elsewhere</title><body>Another application"
            if self.path == "/onelane.js":
                kind, text = "text/javascript", (ROOT / "app/dev/static/onelane.js").read_text("utf-8")
            elif self.path.startswith("/billing.html"):
                cookies = SimpleCookie(self.headers["Cookie"])
                text = (ROOT / "docs/examples/billing.html").read_text("utf-8")
                text = text.replace("http://127.0.0.1:8000", cookies["onelane"].value)
                text = text.replace('data-token=""', f'data-token="{cookies["token"].value}"')
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def dev(elsewhere: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A running `onelane dev`, which pages from elsewhere may call, too."""
    port = own_port()
    origins = f"http://127.0.0.1:{port},{elsewhere}"
    started = Dev(tmp_path_factory.mktemp("shop"), port, REDIRECT_ORIGINS=origins)
    try:
        started.says("onelane is ready")
        yield started
    finally:
        started.terminate()


@pytest.fixture(scope="session")
def shop(dev: Dev) -> str:
    """The address of its shop."""
    return f"http://127.0.0.1:{dev.port}/shop"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A visitor of their own; what the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None)
    yield opened
    context.close()
    assert complaints == []
