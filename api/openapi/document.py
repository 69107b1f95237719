"""Assembles the OpenAPI document from what the views of an application say of themselves."""

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
from api.openapi.answer import EVENT_STREAM, JSON, JSONL, REQUEST_ID, Answer, Header
from api.openapi.operation import Operation, Who, description_of
from api.openapi.parameters import PATH_PARTS, Parameter
from api.openapi.refusals import Refusal
from api.openapi.schemas import build_schemas
from api.openapi.texts import DESCRIPTION, SECURITY_SCHEMES, TAGS
from api.openapi.upload import Upload
from api.responses.error import ErrorSchema

_SECURITY: dict[Who, list[dict[str, list[str]]]] = {
    Who.ANYONE: [],
    Who.USER: [{"jwt": []}],
    Who.ADMIN: [{"jwt": []}],
    Who.KEY: [{"apiKey": []}, {"apiKeyHeader": []}, {"jwt": [], "keyId": []}],
    Who.KEY_OR_USER: [{"apiKey": []}, {"apiKeyHeader": []}, {"jwt": []}],
}
_NOT_ALLOWED: dict[Who, tuple[Refusal, ...]] = {
    Who.ANYONE: (),
    Who.USER: (refusals.NO_TOKEN, refusals.SUSPENDED),
    Who.ADMIN: (refusals.NO_TOKEN, refusals.SUSPENDED, refusals.FORBIDDEN),
    Who.KEY: refusals.NO_KEY,
    Who.KEY_OR_USER: refusals.NO_KEY,
}
#: Made by Flask beside the view's own.
_IMPLIED_METHODS = frozenset({"HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Call:
    """One method of one route, and the operation behind it."""

    path: str
    method: str
    endpoint: str
    text: str
    operation: Operation
    parts: tuple[Parameter, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*self.parts, *self.operation.parameters)

    @property
    def refusals(self) -> Iterator[Refusal]:
        """What it can refuse, those things included that every call of its kind can."""
        operation = self.operation
        yield from _NOT_ALLOWED[operation.who]
        if operation.body is not None or operation.upload is not None:
            yield from refusals.BAD_BODY
        if operation.parameters:
            yield refusals.BAD_REQUEST
        if any(name.endswith("_id") for name in (part.name for part in self.parts)):
            yield refusals.NOT_FOUND
        yield from operation.refusals
        if operation.who is not Who.ANYONE and is_write(self.method, self.endpoint):
            yield refusals.TOO_MANY_WRITES
        if operation.uses_parts:
            yield refusals.AWAY
        yield refusals.FAULT


def build_document(app: Flask) -> dict[str, Any]:
    """Return the document of all described views of `app`."""
    calls = sorted(calls_of(app), key=lambda call: (call.path, call.method))
    references, schemas = build_schemas(_models_of(calls))
    paths: dict[str, Any] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method] = _show_call(call, references)
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
                    parts=tuple(PATH_PARTS[name] for _, name in _variables(rule)),
                )


def path_of(rule: Rule) -> str:
    """Return a route as OpenAPI writes it."""
    path = rule.rule
    for written, name in _variables(rule):
        path = path.replace(f"<{written}>", f"{{{name}}}")
    return path


def _variables(rule: Rule) -> Iterator[tuple[str, str]]:
    """Yield each variable part as it is written, and its name."""
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
        for answer in call.operation.answers.values():
            yield from filter(None, answer.content.values())


def _show_call(call: Call, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    operation = call.operation
    summary, _, description = call.text.partition("\n\n")
    shown: dict[str, Any] = {
        "operationId": call.endpoint.replace(".", "_"),
        "tags": [TAGS[call.endpoint.partition(".")[0]].name],
        "summary": " ".join(summary.replace("`", "").split()).rstrip("."),
        "security": _SECURITY[operation.who],
    }
    if description:
        shown["description"] = description
    if call.parameters:
        shown["parameters"] = [parameter.show() for parameter in call.parameters]
    if operation.body is not None:
        content = {JSON: {"schema": references[operation.body]}}
        required = not operation.is_body_optional
        shown["requestBody"] = {"required": required, "content": content}
    if operation.upload is not None:
        shown["requestBody"] = {
            "required": True,
            "content": _show_upload(operation.upload, references),
        }
    answers = {
        str(status): _show_answer(answer, references)
        for status, answer in operation.answers.items()
    }
    shown["responses"] = {**_show_refusals(call, references), **answers}
    shown["responses"] = dict(sorted(shown["responses"].items()))
    return shown


def _show_upload(upload: Upload, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    file: dict[str, Any] = {"schema": {"type": "string"}}
    if upload.line is not None:
        file["x-item-schema"] = references[upload.line]  # OpenAPI 3.1 has no word for lines either
    form = {"multipart/form-data": {"schema": references[upload.form]}}
    return dict.fromkeys(upload.types, file) | form


def _show_answer(answer: Answer, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    shown = {
        "description": answer.description,
        "headers": _show_headers(answer.headers),
        "content": {
            media: _show_content(media, references[model] if model else None)
            for media, model in answer.content.items()
        },
    }
    return {name: value for name, value in shown.items() if value}


def _show_content(media: str, reference: Any) -> dict[str, Any]:
    if media in {EVENT_STREAM, JSONL}:
        # OpenAPI 3.1 has no word for it: the JSON of each line, and after each `data:` but that of
        # the last event, `[DONE]`.
        return {"x-item-schema": reference}
    return {"schema": reference or {"type": "string"}}


def _show_refusals(call: Call, references: dict[type[BaseModel], Any]) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    headers: dict[int, list[tuple[Header, ...]]] = {}
    for refusal in call.refusals:
        codes.setdefault(refusal.status, []).extend(refusal.codes)
        headers.setdefault(refusal.status, []).append(refusal.headers)
    return {
        str(status): {
            "description": refusals.MEANINGS[status],
            "headers": _show_headers(_of_any(headers[status])),
            "content": {
                JSON: {"schema": _error_with(dict.fromkeys(found), references[ErrorSchema])}
            },
        }
        for status, found in codes.items()
    }


def _of_any(of_each: list[tuple[Header, ...]]) -> list[Header]:
    """Return the headers of several refusals: one is always there if it is so with each of them."""
    always = set.intersection(
        *({header.name for header in headers if header.is_always} for headers in of_each)
    )
    return [
        replace(header, is_always=header.name in always)
        for headers in of_each
        for header in headers
    ]


def _error_with(codes: dict[str, Any], reference: Any) -> dict[str, Any]:
    code = {"properties": {"code": {"enum": list(codes)}}}
    return {"allOf": [reference, {"properties": {"error": code}}]}


def _show_headers(headers: Any) -> dict[str, Any]:
    return {
        header.name: {
            "description": header.description,
            "schema": dict(header.schema),
            **({"required": True} if header.is_always else {}),
        }
        for header in (REQUEST_ID, *headers)
    }
