"""Assembles the OpenAPI document from the descriptions of an application's views."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from flask import Flask
from pydantic import BaseModel
from werkzeug.routing import Rule

from api.auth.write_limits import is_write
from api.openapi import refusals
from api.openapi.operation import CallerKind, Operation, description_of
from api.openapi.parameters import PATH_PARAMETERS, Parameter
from api.openapi.refusals import Refusal
from api.openapi.response import EVENT_STREAM, JSON, JSONL, REQUEST_ID, ResponseHeader, ResponseSpec
from api.openapi.schemas import build_schemas
from api.openapi.texts import DESCRIPTION, SECURITY_SCHEMES, TAGS
from api.openapi.upload import UploadSpec
from api.responses.error import ErrorSchema

_SECURITY: dict[CallerKind, list[dict[str, list[str]]]] = {
    CallerKind.ANYONE: [],
    CallerKind.USER: [{"jwt": []}],
    CallerKind.ADMIN: [{"jwt": []}],
    CallerKind.KEY: [{"apiKey": []}, {"apiKeyHeader": []}, {"jwt": [], "keyId": []}],
    CallerKind.KEY_OR_USER: [{"apiKey": []}, {"apiKeyHeader": []}, {"jwt": []}],
}
_CREDENTIAL_REFUSALS: dict[CallerKind, tuple[Refusal, ...]] = {
    CallerKind.ANYONE: (),
    CallerKind.USER: (refusals.NO_TOKEN, refusals.SUSPENDED),
    CallerKind.ADMIN: (refusals.NO_TOKEN, refusals.SUSPENDED, refusals.FORBIDDEN),
    CallerKind.KEY: refusals.NO_KEY,
    CallerKind.KEY_OR_USER: refusals.NO_KEY,
}
#: Methods that Flask adds to those of the view.
_IMPLIED_METHODS = frozenset({"HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Call:
    """One method of one route, and the operation behind it."""

    path: str
    method: str
    endpoint: str
    text: str
    operation: Operation
    path_parameters: tuple[Parameter, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*self.path_parameters, *self.operation.parameters)

    @property
    def refusals(self) -> Iterator[Refusal]:
        """The refusals of the view, and those that all calls of its kind share."""
        operation = self.operation
        yield from _CREDENTIAL_REFUSALS[operation.caller]
        if operation.body is not None or operation.upload is not None:
            yield from refusals.BAD_BODY
        if operation.parameters:
            yield refusals.BAD_REQUEST
        if any(parameter.name.endswith("_id") for parameter in self.path_parameters):
            yield refusals.NOT_FOUND
        yield from operation.refusals
        if operation.caller is not CallerKind.ANYONE and is_write(self.method, self.endpoint):
            yield refusals.TOO_MANY_WRITES
        if operation.uses_backends:
            yield refusals.AWAY
        yield refusals.FAULT


def build_document(app: Flask) -> dict[str, Any]:
    """Return the document of all described views of `app`."""
    calls = sorted(calls_of(app), key=lambda call: (call.path, call.method))
    references, schemas = build_schemas(_models_of(calls))
    paths: dict[str, Any] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method] = _operation_object(call, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "BountyCoder",
            "version": version("bountycoder"),
            "description": DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": tag.name, "description": tag.description}
            for tag in dict.fromkeys(TAGS.values())
        ],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SECURITY_SCHEMES},
    }


def calls_of(app: Flask) -> Iterator[Call]:
    """Yield each method of each described view."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        operation = description_of(view)
        if isinstance(operation, Operation):
            for method in sorted((rule.methods or set()) - _IMPLIED_METHODS):
                yield Call(
                    path=path_of(rule),
                    method=method.lower(),
                    endpoint=rule.endpoint,
                    text=inspect.getdoc(view) or "",
                    operation=operation,
                    path_parameters=tuple(PATH_PARAMETERS[name] for _, name in _variables(rule)),
                )


def path_of(rule: Rule) -> str:
    """Return the path of a route in the notation of OpenAPI."""
    path = rule.rule
    for written, name in _variables(rule):
        path = path.replace(f"<{written}>", f"{{{name}}}")
    return path


def _variables(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield each variable of a route, as written and by its name."""
    for piece in rule.rule.split("<")[1:]:
        written = piece.partition(">")[0]
        yield written, written.rpartition(":")[2]


def _models_of(calls: list[Call]) -> Iterator[type[BaseModel]]:
    yield ErrorSchema
    for call in calls:
        if call.operation.body is not None:
            yield call.operation.body
        if (upload := call.operation.upload) is not None:
            yield from filter(None, (upload.line, upload.form))
        for response in call.operation.responses.values():
            yield from filter(None, response.content.values())


def _operation_object(call: Call, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    operation = call.operation
    summary, _, description = call.text.partition("\n\n")
    described: dict[str, Any] = {
        "operationId": call.endpoint.replace(".", "_"),
        "tags": [TAGS[call.endpoint.partition(".")[0]].name],
        "summary": " ".join(summary.replace("`", "").split()).rstrip("."),
        "security": _SECURITY[operation.caller],
    }
    if description:
        described["description"] = description
    if call.parameters:
        described["parameters"] = [parameter.parameter_object() for parameter in call.parameters]
    if operation.body is not None:
        content = {JSON: {"schema": references[operation.body]}}
        required = not operation.is_body_optional
        described["requestBody"] = {"required": required, "content": content}
    if operation.upload is not None:
        described["requestBody"] = {
            "required": True,
            "content": _upload_content(operation.upload, references),
        }
    responses = _error_responses(call, references) | {
        str(status): _response_object(response, references)
        for status, response in operation.responses.items()
    }
    described["responses"] = dict(sorted(responses.items()))
    return described


def _upload_content(upload: UploadSpec, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    file: dict[str, Any] = {"schema": {"type": "string"}}
    if upload.line is not None:
        file["x-item-schema"] = references[upload.line]  # OpenAPI 3.1 cannot describe lines either
    form = {"multipart/form-data": {"schema": references[upload.form]}}
    return dict.fromkeys(upload.types, file) | form


def _response_object(
    response: ResponseSpec, references: dict[type[BaseModel], Any]
) -> dict[str, Any]:
    described = {
        "description": response.description,
        "headers": _header_objects(response.headers),
        "content": {
            media: _media_type_object(media, references[model] if model else None)
            for media, model in response.content.items()
        },
    }
    return {name: value for name, value in described.items() if value}


def _media_type_object(media: str, reference: Any) -> dict[str, Any]:
    if media in {EVENT_STREAM, JSONL}:
        # OpenAPI 3.1 cannot describe the JSON of each line or event. The last event, `[DONE]`, is
        # no JSON.
        return {"x-item-schema": reference}
    return {"schema": reference or {"type": "string"}}


def _error_responses(call: Call, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    headers: dict[int, list[tuple[ResponseHeader, ...]]] = {}
    for refusal in call.refusals:
        codes.setdefault(refusal.status, []).extend(refusal.codes)
        headers.setdefault(refusal.status, []).append(refusal.headers)
    return {
        str(status): {
            "description": refusals.DESCRIPTIONS[status],
            "headers": _header_objects(_merged_headers(headers[status])),
            "content": {
                JSON: {"schema": _error_with(dict.fromkeys(found), references[ErrorSchema])}
            },
        }
        for status, found in codes.items()
    }


def _merged_headers(groups: list[tuple[ResponseHeader, ...]]) -> list[ResponseHeader]:
    """Return the headers of several refusals; `is_always` holds if it holds in each of them."""
    always = set.intersection(
        *({header.name for header in headers if header.is_always} for headers in groups)
    )
    return [
        replace(header, is_always=header.name in always) for headers in groups for header in headers
    ]


def _error_with(codes: dict[str, Any], reference: Any) -> dict[str, Any]:
    code = {"properties": {"code": {"enum": list(codes)}}}
    return {"allOf": [reference, {"properties": {"error": code}}]}


def _header_objects(headers: Any) -> dict[str, Any]:
    return {
        header.name: {
            "description": header.description,
            "schema": dict(header.schema),
            **({"required": True} if header.is_always else {}),
        }
        for header in (REQUEST_ID, *headers)
    }
