"""What an operator looks up says the same as the API."""

from datetime import timedelta
from typing import Any

import pytest

from billing.checkout import view
from billing.database import Database
from billing.errors import NotFound
from billing.operators.listing import Wanted
from billing.operators.lookup import list_checkouts, show_checkout
from billing.operators.report import summarize
from tests.support.reconcile_world import Shop


@pytest.mark.parametrize("together", [1, 2, 1000])
def test_checkouts_are_listed_and_shown_as_their_buyers_see_them(
    database: Database, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """OPS-144: each is stored as open; paid, replaced, over and open they are by now."""
    monkeypatch.setattr(view, "READ_TOGETHER", together)
    shop = Shop(database)
    over = shop.served("standard", user="user_over").id
    shop.clock.advance(hours=25)
    replaced = shop.served("standard", user="user_1").id
    paid = shop.served("commit", user="user_1")
    shop.sandbox.pay(str(paid.session_id))
    shop.deliver(shop.made())
    shop.work_events()
    still = shop.served("standard", user="user_2").id
    expected = {over: "expired", replaced: "superseded", paid.id: "completed", still: "open"}
    places: dict[str, Any] = {"database": database, "clock": shop.clock}
    assert {row["id"]: row["status"] for row in list_checkouts(Wanted(10), **places)} == expected
    for id_, status in expected.items():
        assert [row["id"] for row in list_checkouts(Wanted(10), status=status, **places)] == [id_]
        assert show_checkout(id_, **places)["status"] == status
    assert len(list_checkouts(Wanted(2), **places)) == 2
    assert [row["id"] for row in list_checkouts(Wanted(10, customer="user_2"), **places)] == [still]
    customer = str(shop.sessions("open")[0]["customer"])
    assert [row["id"] for row in list_checkouts(Wanted(10, customer=customer), **places)] == [still]
    ago = shop.clock.now() - timedelta(hours=1)
    assert over not in [row["id"] for row in list_checkouts(Wanted(10, since=ago), **places)]
    counted = summarize(**places)["checkouts"]
    assert (counted.pop("oldest_pending_at"), counted.pop("waits_for")) == (None, None)
    assert counted == {"open": 1, "completed": 1, "superseded": 1}, "of the last 24 h"
    with pytest.raises(NotFound):
        show_checkout("chk_nowhere", **places)
