"""A company's proxy in the environment: what is on this machine is reached without it, Stripe through it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running_dev import environment

ROOT = Path(__file__).parents[2]
PROXY = "http://proxy.example:3128"
LOOK = """
import urllib.request
from requests.utils import get_environ_proxies, select_proxy
from onelane.__main__ import spare_loopback
spare_loopback()
for address in {addresses!r}:
    parts = urllib.request.Request(address)
    past = urllib.request.proxy_bypass(parts.host)
    print(int(not past), int(bool(select_proxy(address, get_environ_proxies(address)))))
"""
LOCAL = ("http://127.0.0.1:8000/readyz", "http://localhost:12111", "http://[::1]:8000/", "https://127.0.0.1:1/")
FAR = ("https://api.stripe.com/v1/prices", "http://127.example.com/", "http://10.0.0.1/")
CASES: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "upper case": ({"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}, LOCAL, "0 0"),
    "lower case": ({"http_proxy": PROXY, "https_proxy": PROXY}, LOCAL, "0 0"),
    "all of them": ({"ALL_PROXY": PROXY, "http_proxy": PROXY, "https_proxy": PROXY}, LOCAL, "0 0"),
    "with exceptions": ({"https_proxy": PROXY, "http_proxy": PROXY, "NO_PROXY": "intern.example"}, LOCAL, "0 0"),
    "and both spellings": ({"https_proxy": PROXY, "no_proxy": "a.example", "NO_PROXY": "b.example"}, LOCAL[3:], "0 0"),
    "elsewhere": ({"https_proxy": PROXY, "http_proxy": PROXY}, FAR, "1 1"),
    "no proxy at all": ({"https_proxy": PROXY, "http_proxy": PROXY, "no_proxy": "*"}, FAR, "0 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_loopback_never_goes_through_a_proxy(case: str) -> None:
    """OPS-132, OPS-26, faults row 106."""
    settings, addresses, expected = CASES[case]
    looked = subprocess.run(
        [sys.executable, "-c", LOOK.format(addresses=addresses)],
        cwd=ROOT,
        env={name: value for name, value in environment(**settings).items() if name in settings or name == "PATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert looked.stdout.splitlines() == [expected] * len(addresses)
