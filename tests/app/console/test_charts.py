"""The charts of the first page, from the ledger's minutes."""

import html
import json
import re

import pytest
import sqlalchemy as sa

from billing.models import minute_counts
from billing.operators.minutes import minute_of
from tests.app.console.conftest import Browser
from tests.support.checkout_world import World


@pytest.mark.parametrize(("span", "points"), [("hour", 60), ("day", 144), ("", 60), ("nonsense", 60)])
def test_charts_say_in_words_and_in_points_what_was_counted(
    console: Browser, world: World, span: str, points: int
) -> None:
    """OPS-160, OPS-162"""
    minute = minute_of(world.clock.now())
    counts = [("deliveries", 30, 5), ("deliveries", 2, 7), ("events_pending", 30, 4), ("events_pending", 2, 3)]
    with world.database.write() as connection:
        for name, ago, value in counts:
            connection.execute(sa.insert(minute_counts).values(minute=minute - ago, name=name, value=value))
    text = console.get(f"/console/charts?span={span}", headers={"HX-Request": "true"}).get_data(as_text=True)
    assert "<html" not in text
    assert "12 deliveries, 0 refused signatures" in text
    assert "at most 4 pending events" in text
    charts = [json.loads(html.unescape(found)) for found in re.findall(r'data-chart="([^"]*)"', text)]
    assert len(charts) == 6
    deliveries = charts[0]
    values = deliveries["series"][0]["values"]
    assert len(deliveries["at"]) == len(values) == points
    assert sum(value or 0 for value in values) == 12
    assert values[0] is None, "nobody was there"


def test_first_page_loads_the_charts_and_without_a_script_leads_to_them(console: Browser) -> None:
    text = console.get("/console/").get_data(as_text=True)
    assert '<a href="/console/charts">' in text
    assert "uplot.min.js" in text
    assert "<h1>Charts</h1>" in console.get("/console/charts").get_data(as_text=True)
