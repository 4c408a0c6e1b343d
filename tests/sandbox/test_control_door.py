"""The control plane and pages that a person on this machine looks at: they can neither read it nor change anything."""

from typing import Any

import pytest
import requests

FOREIGN: dict[str, dict[str, Any]] = {
    "a form": {"data": {"x": "1"}},
    "a form with nothing": {"headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "JSON as text": {"data": b"{}", "headers": {"Content-Type": "text/plain"}},
    "JSON as nothing": {"data": b"{}"},
    "another origin": {"json": {}, "headers": {"Origin": "https://evil.example"}},
    "no origin at all": {"headers": {"Origin": "null"}},
    "a name that leads here": {"json": {}, "headers": {"Host": "evil.example:12111"}},
}


@pytest.mark.parametrize("how", FOREIGN.values(), ids=FOREIGN)
def test_what_a_foreign_page_can_send_changes_nothing(url: str, sandbox: Any, how: dict[str, Any]) -> None:
    """SBX-160; faults row 126"""
    before = sandbox.store.counts()
    answer = requests.post(f"{url}/_sandbox/reset", timeout=5, **how)
    assert answer.status_code in (403, 415)
    assert sandbox.store.counts() == before


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_name_of_a_pages_owner_reads_nothing(url: str, host: str) -> None:
    """SBX-160"""
    assert requests.get(f"{url}/_sandbox/requests", headers={"Host": host}, timeout=5).status_code == 403


@pytest.mark.parametrize("host", ["localhost:12111", "127.0.0.1:12111", "[::1]:12111", "sandbox:12111", "10.0.0.7"])
@pytest.mark.parametrize("origin", [None, "http://{host}"])
def test_own_names_are_served(url: str, host: str, origin: str | None) -> None:
    """SBX-160"""
    headers = {"Host": host, **({"Origin": origin.format(host=host)} if origin else {})}
    for how in ({}, {"json": {}}):
        assert requests.post(f"{url}/_sandbox/reset", headers=headers, timeout=5, **how).status_code == 200
