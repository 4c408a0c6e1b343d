"""docs/settings.md against the settings and the catalog that exist; it is printed by `onelane settings`."""

from app.cli.settings import PRODUCT, TABLES, page
from billing.process.setting_docs import MEANINGS
from billing.process.settings import Settings
from tests.support.running_dev import ROOT


def test_page_is_as_the_command_prints_it() -> None:
    """OPS-172"""
    written = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert written == "\n".join(page()) + "\n", "run `onelane settings > docs/settings.md`"


def test_every_setting_and_every_key_of_the_catalog_has_its_meaning() -> None:
    """OPS-172"""
    assert set(MEANINGS) == {name.upper() for name in Settings.model_fields}
    for title, model, meanings in TABLES:
        own = {"key"} if model.__name__ == "Plan" else set()  # a plan's key is the table's name
        assert set(meanings) == set(model.model_fields) - own, title
    assert set(PRODUCT) == {"key", "name"}
