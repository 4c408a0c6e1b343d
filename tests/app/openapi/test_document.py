"""The OpenAPI document and the page made from it. tests/support/web.py checks every answer against it."""

import re
from html import unescape
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.errors.problems import PROBLEMS
from app.openapi import OPERATIONS
from app.openapi.document import document
from app.openapi.page import HERE
from billing.subscriptions.projection import CHANGES
from tests.app.conftest import MakeApp
from tests.support.web import DOCUMENT, Web

METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH"}
NOT_API = ("/static/<path:filename>", "/docs", "/", "/shop", "/shop/new", "/shop/static/<path:filename>")


def test_every_route_is_in_the_document_and_the_other_way_round(make_app: MakeApp) -> None:
    """API-53"""
    app = make_app(shop=True)
    routes = {
        (
            method,
            re.sub(
                r"<(?:path:)?(\w+)>",
                lambda found: "{" + found[1].replace("checkout_id", "id").replace("operation_id", "id") + "}",
                rule.rule,
            ),
        )
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
        if not rule.rule.startswith(NOT_API[-1]) and rule.rule not in NOT_API
    }
    documented = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}

    assert routes == documented


def test_document_is_served_as_it_was_built(web: Web) -> None:
    """API-53"""
    assert web.get("/openapi.json", user=None).get_json() == document(address="http://localhost")


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ({"Host": "pay.example.com"}, "http://pay.example.com"),
        ({"Host": "[::1]:8000"}, "http://[::1]:8000"),
        ({"Host": "pay.example.com", "X-Forwarded-Proto": "https"}, "https://pay.example.com"),
        ({"Host": "pay.example.com", "X-Forwarded-Prefix": "/billing"}, "http://pay.example.com/billing"),
        ({"Host": 'x"><b>'}, "http://127.0.0.1:8000"),
    ],
)
def test_examples_name_the_address_they_are_served_from(make_app: MakeApp, sent: dict[str, str], address: str) -> None:
    """API-53"""
    web = Web(make_app(trusted_proxies=1))

    assert web.client.get("/openapi.json", headers=sent).get_json()["servers"] == [{"url": address}]
    page = unescape(web.client.get("/docs", headers=sent).get_data(as_text=True))
    assert f"curl -X POST {address}/v1/checkouts" in page
    assert HERE not in page


def test_document_is_an_openapi_3_1_document() -> None:
    """API-53"""
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
    assert {"title", "version"} <= set(DOCUMENT["info"])
    names = [operation["operationId"] for _, _, operation in _operations()]
    assert len(set(names)) == len(names)
    for path, method, operation in _operations():
        where = f"{method} {path}"
        parameters = [_resolve(one) for one in operation.get("parameters", [])]
        assert set(re.findall(r"{(\w+)}", path)) == {one["name"] for one in parameters if one["in"] == "path"}, where
        assert all(one["required"] for one in parameters if one["in"] == "path"), where
        for scheme in operation["security"]:
            assert set(scheme) <= set(DOCUMENT["components"]["securitySchemes"]), where
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status), where
            assert response["description"], where


def test_every_schema_is_a_schema_and_every_reference_leads_somewhere() -> None:
    """API-53"""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(DOCUMENT):
        assert _resolve({"$ref": reference})


def test_every_problem_is_documented_with_the_status_it_has() -> None:
    """API-2, API-53"""
    used: set[str] = set()
    for _, _, operation in _operations():
        for status, response in operation["responses"].items():
            problem = response["content"].get("application/problem+json")
            if problem:
                codes = problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
                assert {PROBLEMS[code].status for code in codes} == {int(status)}
                used |= set(codes)
    # 404 and 405 for addresses and methods that do not exist belong to no operation.
    assert used == set(PROBLEMS) - {"method_not_allowed"}


def test_documentation_page_shows_every_operation_field_and_problem(web: Web) -> None:
    """API-2, API-53"""
    page = web.get("/docs", user=None).get_data(as_text=True)

    for operation in OPERATIONS:
        assert f'id="{operation.name}"' in page
    for code in PROBLEMS:
        assert f'id="{code}"' in page
    for kind in CHANGES:
        assert kind in page
    for schema in DOCUMENT["components"]["schemas"].values():
        for name in schema.get("properties", {}):
            assert re.search(rf"\b{name}\b", page), name


@pytest.mark.parametrize("target", ["problems", "start"])
def test_documentation_page_leads_to_what_it_links(web: Web, target: str) -> None:
    page = web.get("/docs", user=None).get_data(as_text=True)

    assert f'id="{target}"' in page
    assert set(re.findall(r'href="#([\w]+)"', page)) <= set(re.findall(r'id="([\w]+)"', page))


def _operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []


def _resolve(schema: dict[str, Any]) -> Any:
    found: Any = DOCUMENT
    for step in schema["$ref"].removeprefix("#/").split("/") if "$ref" in schema else []:
        found = found[step]
    return found if "$ref" in schema else schema
