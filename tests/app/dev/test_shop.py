"""The demo shop, seen from the server: who one is there, what the page says, what it never does."""

import re

import jwt
import pytest

from app.dev.shop import COOKIE, money
from billing.errors import ConfigurationError
from billing.operators import installation
from tests.app.conftest import MakeApp
from tests.support.checkout_world import World
from tests.support.web import JWT_SECRET, Web

STATIC = ["/shop/static/shop.js", "/shop/static/shop.css", "/static/base.css", "/static/icon.svg", "/static/docs.css"]


@pytest.fixture
def shop(make_app: MakeApp) -> Web:
    """The application with the shop."""
    return Web(make_app(shop=True))


def _token(page: str) -> str:
    found = re.search(r'data-token="([^"]+)"', page)
    assert found
    return found[1]


def test_shop_is_there_only_where_it_was_asked_for(web: Web, shop: Web) -> None:
    """API-60"""
    for path in ("/", "/shop", "/shop/new"):
        assert web.client.open(path, method="POST" if path.endswith("new") else "GET").status_code == 404
    assert shop.client.get("/").headers["Location"] == "/shop"


def test_shop_cannot_run_without_a_secret_of_its_own(make_app: MakeApp) -> None:
    """API-60"""
    with pytest.raises(ConfigurationError):
        make_app(shop=True, auth_jwt_secret=None, auth_jwks_url="http://127.0.0.1:1/keys", auth_issuer="id")


def test_page_has_a_button_for_each_plan_and_shows_that_access_is_denied(shop: Web, world: World) -> None:
    """API-62"""
    page = shop.client.get("/shop?paid=1").get_data(as_text=True)

    assert re.findall(r'data-plan="(\w+)"', page) == list(world.catalog.plans)
    assert re.findall(r'data-access="(\w+)"', page) == ["denied"]
    assert "First month for $4" in page
    assert "$8 a month" in page


def test_visitor_stays_the_same_user_until_they_want_to_be_somebody_new(shop: Web) -> None:
    """API-61"""
    first = _user(shop.client.get("/shop").get_data(as_text=True))
    again = _user(shop.client.get("/shop").get_data(as_text=True))
    moved = shop.client.post("/shop/new")
    other = _user(shop.client.get("/shop").get_data(as_text=True))

    assert first == again
    assert (moved.status_code, moved.headers["Location"]) == (303, "/shop")
    assert other != first


@pytest.mark.parametrize("name", ["user_1", "admin", "demo-1", "demo-zzzzzzzz", "demo-00000000x", "auth0|1", ""])
def test_cookie_that_names_somebody_else_is_not_believed(shop: Web, name: str) -> None:
    """API-61"""
    shop.client.set_cookie(COOKIE, name, path="/shop")

    page = shop.client.get("/shop").get_data(as_text=True)

    user = _user(page)
    assert re.fullmatch(r"demo-[0-9a-f]{8}", user)
    assert user != name


def test_token_of_the_page_opens_the_api_and_the_page_is_never_stored(shop: Web) -> None:
    """API-61"""
    answer = shop.client.get("/shop")

    bearer = _token(answer.get_data(as_text=True))
    assert shop.get("/v1/subscription", bearer=bearer).status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    claims = jwt.decode(bearer, JWT_SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == 3600


def test_token_of_the_page_names_the_configured_issuer_and_audience(make_app: MakeApp) -> None:
    shop = Web(make_app(shop=True, auth_issuer="https://id.example", auth_audience="shop"))

    bearer = _token(shop.client.get("/shop").get_data(as_text=True))

    assert shop.get("/v1/subscription", bearer=bearer).status_code == 200


@pytest.mark.parametrize("path", STATIC)
def test_files_of_the_pages_are_there(shop: Web, path: str) -> None:
    assert shop.get(path).status_code == 200


def test_script_stays_short_enough_to_be_an_example(shop: Web) -> None:
    script = shop.get("/shop/static/shop.js").get_data(as_text=True)

    assert len(script.splitlines()) < 60


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (900, "usd", "$9"),
        (950, "usd", "$9.50"),
        (123456, "eur", "€1,234.56"),
        (500, "jpy", "¥500"),
        (0, "chf", "CHF 0"),
    ],
)
def test_money_is_written_as_people_write_it(amount: int, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def _user(page: str) -> str:
    return str(jwt.decode(_token(page), JWT_SECRET, ["HS256"])["sub"])


def test_shop_signs_nothing_on_a_ledger_of_real_money(shop: Web, world: World) -> None:
    """OPS-111: the web has no key to know the mode by."""
    with world.database.write() as connection:
        installation.insert_first(connection, stripe_account="acct_1", livemode=True, bound_at=world.clock.now())
    for path in ("/", "/shop"):
        assert shop.client.get(path).status_code == 403
