"""Redirect tricks (faults row 63): only an allow-listed origin passes, and it passes in its plain form (CHK-9)."""

import pytest

from billing.checkout.requests import redirect_error

ORIGINS = ("https://app.example", "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "address",
    [
        "https://app.example",
        "https://app.example/ok?session={CHECKOUT_SESSION_ID}#done",
        "https://app.example:443/",
        "http://127.0.0.1:8000/shop",
        "https://app.example/" + "a" * 1980,
    ],
)
def test_allowed_origin_passes(address: str) -> None:
    """CHK-9."""
    assert redirect_error(address, origins=ORIGINS) is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/ok",
        "//app.example/ok",
        "javascript:alert(1)",
        "data:text/html,x",
        "https:app.example",
        "https:/app.example",
        "https:///app.example",
        "https://app.example@evil.example/",
        "https://user:pw@app.example/",
        "https://app.example\\@evil.example/",
        "https://evil.example\\.app.example/",
        "https://app.example.evil.example/",
        "https://app.example:444/",
        "https://app.example:99999/",
        "http://app.example/",
        "http://127.0.0.1:80/",
        "http://127.0.0.1/",
        "http://0x7f000001:8000/",
        "https://app\u3002example/",
        "https://\u0430pp.example/",
        "https://app.example /",
        " https://app.example/",
        "https://app.example/\r\nSet-Cookie: a=b",
        "https://app.example/\x00",
        "https://[::1/",
        "https://app.example/<script>",
        'https://app.example/"',
        "https://app.example/" + "a" * 1981,
        "HTTPS://evil.example/",
    ],
)
def test_anything_odd_is_refused(address: str) -> None:
    """CHK-9."""
    assert redirect_error(address, origins=ORIGINS) is not None
