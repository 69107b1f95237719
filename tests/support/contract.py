"""Checks every response that a test receives against the published OpenAPI document.

A missing field is a fault, and so is a field that the document does not name: the check closes
objects whose fields are named. So the document cannot drift from the responses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs
import requests
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule

from api.app import published_document

#: Statuses that any path may return. The document describes only the methods that exist.
UNIVERSAL = {405}


@dataclass(frozen=True)
class Contract:
    """The document, and the routes that find the operation of a request."""

    document: dict[str, Any]
    routes: MapAdapter

    @classmethod
    def published(cls) -> Contract:
        document = published_document()
        rules = [
            Rule(_rule(path), methods=[method.upper()], endpoint=(path, method))
            for path, operations in document["paths"].items()
            for method in operations
        ]
        return cls(document, Map(rules, strict_slashes=False).bind("api"))

    def faults(self, response: requests.Response, *, has_body: bool = True) -> list[str]:
        """Return the differences between a response and the document."""
        request = response.request
        path = str(request.path_url).partition("?")[0]
        try:
            (route, method), _ = self.routes.match(path, method=str(request.method))
        except HTTPException:
            return []
        said = self.document["paths"][route][method]["responses"].get(str(response.status_code))
        if said is None:
            is_universal = response.status_code in UNIVERSAL
            return [] if is_universal else [f"{response.status_code} is not described"]
        faults = [
            f"the header {name} is missing"
            for name, header in said.get("headers", {}).items()
            if header.get("required") and name not in response.headers
        ]
        return [*faults, *self._body_faults(said, response, has_body=has_body)]

    def _body_faults(
        self, said: dict[str, Any], response: requests.Response, *, has_body: bool
    ) -> Iterator[str]:
        media = response.headers.get("content-type", "").partition(";")[0]
        content = said.get("content", {})
        if media not in content:
            if content or (has_body and response.content):
                yield f"{media or 'a body'} is not described"
        elif media == "application/json" and has_body:
            yield from self.json_faults(content[media]["schema"], response.json())
        elif media == "application/jsonl" and has_body:
            for line in response.text.splitlines():
                yield from self.json_faults(content[media]["x-item-schema"], json.loads(line))

    def event_faults(self, path: str, method: str, event: Any) -> list[str]:
        """Return the differences between one event of a stream and the document."""
        said = self.document["paths"][path][method]["responses"]["200"]
        schema = said["content"]["text/event-stream"]["x-item-schema"]
        return list(self.json_faults(schema, event))

    def json_faults(self, schema: dict[str, Any], value: Any) -> Iterator[str]:
        for error in _validator(json.dumps(schema)).iter_errors(value):
            yield f"{list(error.instance_path)}: {error.message}"


def check_response(response: requests.Response, *, has_body: bool) -> None:
    """Fail the test if a response is not as the document describes it."""
    faults = contract().faults(response, has_body=has_body)
    request = response.request
    assert faults == [], f"{request.method} {request.path_url}: {response.status_code} {faults}"


@cache
def contract() -> Contract:
    return Contract.published()


@cache
def _validator(schema: str) -> Any:
    """Return the validator of a schema that refers to the document's components."""
    components = {"schemas": _closed(contract().document["components"]["schemas"])}
    whole = {**json.loads(schema), "components": components}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _closed(schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**schema, "additionalProperties": schema.get("additionalProperties", False)}
        if "properties" in schema
        else schema
        for name, schema in schemas.items()
    }


def _rule(path: str) -> str:
    """Return a path of OpenAPI as a route."""
    return path.replace("{name}", "<path:name>").replace("{", "<").replace("}", ">")
