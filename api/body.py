"""Reads a request's body into a typed value; what is wrong with it is told at once."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.services import services
from core.blocking import at_most
from core.errors import (
    FieldFault,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from core.generation import Body

B = TypeVar("B", bound=Body)

#: More faults than this are not told: an answer must not grow with a hostile body.
MAX_FAULTS = 20


def read_body(kind: type[B]) -> B:
    """Return the request's JSON body as `kind`.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON.
        RequestTimeout: it has not arrived within `BODY_SECONDS`.
        PayloadTooLarge: it has more bytes than `MAX_BODY_BYTES`.
        InvalidRequest: `invalid_json`, or one fault for each wrong field.
    """
    if not request.is_json:
        raise UnsupportedMediaType("send JSON with `Content-Type: application/json`")
    try:
        with at_most(services().settings.body_seconds):
            data = request.get_data(cache=False)
    except TimeoutError:
        # What still comes of it must not be taken for a next request.
        raise RequestTimeout(
            "the body did not arrive in time", headers={"Connection": "close"}
        ) from None
    if request.content_length is None and len(data) >= (request.max_content_length or 0):
        # Werkzeug cuts a body without a length at the limit and says nothing.
        raise PayloadTooLarge("the body is larger than this service takes")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidRequest:
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        return InvalidRequest("the body is not valid JSON", code="invalid_json")
    faults = [_fault(detail) for detail in details[:MAX_FAULTS]]
    return InvalidRequest(
        "; ".join(fault.message for fault in faults), param=faults[0].param or None, fields=faults
    )


def _fault(detail: ErrorDetails) -> FieldFault:
    param = ".".join(str(part) for part in detail["loc"])
    return FieldFault(param, _message(param or "the body", detail))


def _message(name: str, detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{name} is not a known field"
        case "missing":
            return f"{name} is required"
        case "string_too_short" if context["min_length"] > 1:
            return f"{name} must have at least {context['min_length']} characters"
        case "string_too_long":
            return f"{name} must have at most {context['max_length']} characters"
        case "string_too_short" | "too_short":
            return f"{name} must not be empty"
        case "greater_than_equal":
            return f"{name} must be at least {context['ge']}"
        case "less_than_equal":
            return f"{name} must be at most {context['le']}"
        case "string_pattern_mismatch":
            return f"{name} must not contain NUL characters"
        case "value_error":
            return str(context["error"])
        case _:
            return f"{name}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
