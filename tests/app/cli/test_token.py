"""`onelane token`: what it prints is good for the web, and it signs only with a secret that it was given."""

import time
from pathlib import Path

import jwt
import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from app.identity.callers import Identity
from billing.process.settings import Settings
from tests.support.running_dev import onelane
from tests.support.web import JWT_SECRET


def test_token_is_accepted_by_the_web_and_acts_for_that_user(tmp_path: Path) -> None:
    """API-12: for an hour, with the issuer and the audience that the web asks for."""
    given = {"AUTH_JWT_SECRET": JWT_SECRET, "AUTH_ISSUER": "https://login.example", "AUTH_AUDIENCE": "shop"}
    printed = onelane("token", "ann@example.com / 7", folder=tmp_path, **given)
    assert printed.returncode == 0, printed.stderr
    token = printed.stdout.removesuffix("\n")
    asked = Request(EnvironBuilder(headers={"Authorization": f"Bearer {token}"}).get_environ())
    settings = Settings(_env_file=None, **{name.lower(): value for name, value in given.items()})
    assert Identity(settings).of(asked).user_id == "ann@example.com / 7"
    ends = jwt.decode(token, JWT_SECRET, ["HS256"], audience="shop")["exp"]
    assert 3500 < ends - time.time() <= 3600


@pytest.mark.parametrize(
    "others",
    [{}, {"AUTH_JWKS_URL": "https://login.example/keys", "AUTH_AUDIENCE": "onelane"}],
    ids=["nothing", "a JWKS"],
)
def test_without_a_secret_there_is_no_token(others: dict[str, str], tmp_path: Path) -> None:
    """OPS-5"""
    refused = onelane("token", "ann", folder=tmp_path, **others)
    assert (refused.returncode, refused.stdout) == (78, "")
    assert len(refused.stderr.splitlines()) == 1
    assert "AUTH_JWT_SECRET" in refused.stderr
    assert ("AUTH_JWKS_URL" in refused.stderr) == bool(others)


@pytest.mark.parametrize("user_id", ["", "a\nb", "x" * 201])
def test_id_that_the_web_would_refuse_is_refused_here(user_id: str, tmp_path: Path) -> None:
    refused = onelane("token", user_id, folder=tmp_path, AUTH_JWT_SECRET=JWT_SECRET)
    assert (refused.returncode, refused.stdout) == (2, "")
