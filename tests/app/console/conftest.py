"""The console as a browser has it: cookies, forms with their tokens, and where it is led."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.console import passwords
from tests.app.conftest import MakeApp

PASSWORD = "a-password-of-the-operators"
VIEWER = "a-password-that-only-looks"
TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class Browser:
    """One browser, with its cookies. `base_url` decides between http on this machine and https."""

    def __init__(self, app: Flask, *, base_url: str = "http://localhost", **environ: str) -> None:
        self.client, self._base, self._environ = app.test_client(), base_url, environ

    def get(self, path: str = "/console/", **more: Any) -> TestResponse:
        return self.open(path, **more)

    def open(self, path: str, *, method: str = "GET", **more: Any) -> TestResponse:
        environ = {**self._environ, **more.pop("environ", {})}
        return self.client.open(path, method=method, base_url=self._base, environ_overrides=environ, **more)

    def token(self, path: str = "/console/login") -> str:
        """The token of the forms on this page."""
        found = TOKEN.search(self.get(path).get_data(as_text=True))
        assert found, path
        return found[1]

    def post(self, path: str, *, page: str = "/console/", headers: Any = None, **fields: str) -> TestResponse:
        """Send a form as the page has it."""
        return self.open(path, method="POST", data={"form_token": self.token(page), **fields}, headers=headers)

    def log_in(self, password: str = PASSWORD, **fields: str) -> TestResponse:
        return self.post("/console/login", page="/console/login", password=password, **fields)


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes guessing dear makes these tests slow."""
    monkeypatch.setattr(passwords, "MEMORY_KIB", 64)


@pytest.fixture
def make_console(make_app: MakeApp) -> Callable[..., Flask]:
    """An application with a console."""

    def make(**settings: Any) -> Flask:
        return make_app(**{"console_password": PASSWORD, "console_viewer_password": VIEWER} | settings)

    return make


@pytest.fixture
def console(make_console: Callable[..., Flask]) -> Browser:
    """Somebody who is logged in."""
    browser = Browser(make_console())
    assert browser.log_in(name="ann").status_code == 303
    return browser


def text_of(console: Browser, path: str) -> str:
    """The page at this address, which there has to be."""
    answer = console.get(path)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)
