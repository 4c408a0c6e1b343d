"""The documentation: /openapi.json, and /docs, a page rendered from the same document.

The page has no script and loads nothing from other hosts. A problem's `type` is its anchor on this page. Both are
written once, and name the address that they are served from.
"""

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request

from app.errors.problems import PROBLEMS
from app.openapi import SERVER, STRIPE, TAGS
from app.openapi.document import document

HERE = "http://address.invalid"  # stands for the address in what was written once
DEFAULT_HOST = "127.0.0.1:8000"
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


def docs_routes(*, shop: bool) -> Blueprint:
    """GET /openapi.json and /docs."""
    routes = Blueprint("docs", __name__, template_folder="templates", static_folder="static", static_url_path="/static")

    # Made at the first request, and once: a stranger may ask for them a thousand times a second (API-92).
    # Its links have the prefix under which a proxy shows us.
    @cache
    def written() -> str:
        return jsonify(document(address=HERE)).get_data(as_text=True)

    @lru_cache(maxsize=8)
    def page(_prefix: str) -> str:
        whole = document(address=HERE)
        return render_template(
            "docs.html",
            info=whole["info"],
            tags=TAGS,
            operations=list(_operations(whole)),
            changes={kind: methods["post"] for kind, methods in whole["webhooks"].items()},
            change_fields=list(_names(whole, {"$ref": "#/components/schemas/Change"})),
            problems=PROBLEMS,
            problem_fields=list(_names(whole, {"$ref": "#/components/schemas/ProblemDetails"})),
            security=whole["components"]["securitySchemes"],
            shop=shop,
        )

    @routes.get("/openapi.json")
    def read_document() -> Response:
        return _for_a_minute(Response(written().replace(HERE, _address()), content_type="application/json"))

    @routes.get("/docs")
    def read_page() -> Response:
        text = page(request.script_root).replace(HERE, _address())
        return _for_a_minute(Response(text, content_type="text/html; charset=utf-8"))

    return routes


def _address() -> str:
    """Where the caller found us. A host that is not plainly one is a stranger's text, and stays out."""
    scheme = "https" if request.scheme == "https" else "http"
    host = request.host if _PLAIN_HOST.fullmatch(request.host) else DEFAULT_HOST
    return f"{scheme}://{host}{request.script_root}"


def _operations(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each operation for the template: references resolved, with a curl line."""
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            schemes = [scheme for entry in operation["security"] for scheme in entry]
            parameters = [_resolve(whole, item) for item in operation.get("parameters", [])]
            bodies = _bodies(whole, operation)
            yield {
                "method": method.upper(),
                "path": path,
                "id": operation["operationId"],
                "tag": operation["tags"][0],
                "summary": operation["summary"],
                "text": operation["description"],
                "who": schemes,
                "parameters": parameters,
                "fields": _fields(whole, bodies),
                "answers": list(_answers(whole, operation)),
                "curl": "" if STRIPE in schemes else _curl(whole, method, path, schemes, bodies),
            }


def _bodies(whole: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    if "requestBody" not in operation:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return [_resolve(whole, one) for one in schema.get("anyOf", [schema])]


def _fields(whole: dict[str, Any], bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields of a body; fields of the larger variant only are marked."""
    if not bodies:
        return []
    fields: dict[str, dict[str, Any]] = {}
    for index, body in enumerate(bodies):
        for name, schema in body.get("properties", {}).items():
            if name not in fields:
                fields[name] = {
                    "name": name,
                    "type": _type(whole, schema),
                    "required": name in body.get("required", []),
                    "text": schema.get("description", ""),
                    "note": "with a server key only" if index else "",
                }
    return list(fields.values())


def _answers(whole: dict[str, Any], operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for status, response in operation["responses"].items():
        content = response["content"]
        answer = content.get("application/json", {}).get("schema")
        problem = content.get("application/problem+json", {}).get("schema")
        codes = problem["allOf"][1]["properties"]["code"]["enum"] if problem else []
        yield {
            "status": status,
            "text": response["description"] if answer or not codes else "",
            "codes": codes,
            "fields": list(_names(whole, answer)) if answer else [],
        }


def _names(whole: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The fields of an object and, with dotted names, of the objects in it."""
    for name, inner in _resolve(whole, schema).get("properties", {}).items():
        yield prefix + name
        for part in inner.get("anyOf", [inner]):
            yield from _names(whole, part.get("items", part), f"{prefix}{name}.")


def _type(whole: dict[str, Any], schema: dict[str, Any]) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(_resolve(whole, schema).get("title", "object"))
    if "anyOf" in schema:
        return " or ".join(_type(whole, one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(whole, schema['items'])}"
    return str(schema.get("type", "anything"))


def _curl(whole: dict[str, Any], method: str, path: str, schemes: list[str], bodies: list[dict[str, Any]]) -> str:
    id_ = "op_…" if path.startswith("/v1/operations/") else "chk_…"
    address = HERE + path.replace("{id}", id_).replace("{user_id}", "user_1")
    lines = [f"curl {'' if method == 'get' else f'-X {method.upper()} '}{address}"]
    if schemes:
        lines.append(f'-H "Authorization: Bearer {"$SERVER_KEY" if schemes == [SERVER] else "$TOKEN"}"')
    if bodies:
        required = bodies[0].get("required", [])
        example = {name: bodies[0]["properties"][name].get("examples", ["…"])[0] for name in required}
        lines.append('-H "Content-Type: application/json"')
        shown = json.dumps(example, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        lines.append(f"-d '{shown}'")
    return " \\\n  ".join(lines)


def _resolve(whole: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference within the document."""
    if "$ref" not in schema:
        return schema
    found: Any = whole
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def _for_a_minute(answer: Response) -> Response:
    answer.cache_control.public = True
    answer.cache_control.max_age = 60
    return answer
