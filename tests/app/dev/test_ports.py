"""Where a browser on this machine finds what listens on an address."""

import pytest

from app.dev.ports import address_here


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("shop.internal", "http://shop.internal:8000"),
    ],
)
def test_address_is_one_that_a_browser_here_can_open(bind: str, address: str) -> None:
    assert address_here(bind, 8000) == address
