"""`onelane dev` in front of an identity provider that the operator names."""

from pathlib import Path

import pytest

from tests.app.dev.conftest import Start
from tests.support.ports import own_port


def test_given_jwks_is_used_and_there_is_no_shop(tmp_path: Path, start: Start) -> None:
    """OPS-13, API-60: the shop cannot sign what that provider's keys would vouch for."""
    dev = start(tmp_path, own_port(), AUTH_JWKS_URL="http://127.0.0.1:1/keys", AUTH_ISSUER="id")
    dev.says("onelane is ready")
    assert dev.get("/readyz") == 200
    with pytest.raises(OSError, match="404"):
        dev.get("/shop")
    assert "/shop" not in dev.output
