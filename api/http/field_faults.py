"""Turns the errors of a pydantic model into messages that name the fields at fault.

The texts are our own: those of pydantic name its types, and change with its version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.http.field_suggestion import near_field, other_spelling
from core.errors import FieldFault, InvalidRequest

#: The bound of listed faults: a response must not grow with a hostile body.
MAX_FAULTS = 20
#: With more faults, no list is made: it would take long.
MAX_COUNTED = 5000
#: The bound of a name of a field, which may be as long as the body.
MAX_PARAM_LENGTH = 200
#: The last part of the path of a wrong key, in pydantic.
_KEY = "[key]"

#: The text after the name of the field, by pydantic's type of the error.
MESSAGES = {
    "bool_type": "must be true or false",
    "datetime_from_date_parsing": "must be a time such as 2027-01-31T12:00:00Z",
    "datetime_object_invalid": "must be a time such as 2027-01-31T12:00:00Z",
    "datetime_parsing": "must be a time such as 2027-01-31T12:00:00Z",
    "datetime_type": "must be a string with a time such as 2027-01-31T12:00:00Z",
    "dict_type": "must be a JSON object",
    "enum": "must be one of {expected}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_type": "must be a JSON object",
    "string_pattern_mismatch": "must not contain NUL characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode",
    "timezone_aware": "must name its time zone, as Z or +02:00",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
}
#: Types whose text needs code.
_OTHER_TYPES = frozenset({"extra_forbidden", "string_too_short", "value_error"})
#: All types of errors that have a text of our own.
KNOWN_TYPES = MESSAGES.keys() | _OTHER_TYPES


def invalid_request(
    error: ValidationError, *, of: str = "the body", kind: type[BaseModel] | None = None
) -> InvalidRequest:
    """Return the error for a value that its model refuses.

    Args:
        of: the name of the value in messages, such as "the body".
        kind: the model, to suggest its fields for unknown ones.
    """
    if error.error_count() > MAX_COUNTED:
        return InvalidRequest(f"{of} has {error.error_count()} faults, too many to list")
    details = _without_echoes(error.errors(include_url=False, include_input=False))
    faults = [_fault(detail, of, kind) for detail in details[:MAX_FAULTS]]
    return InvalidRequest(
        "; ".join(fault.message for fault in faults), param=faults[0].param or None, fields=faults
    )


def _without_echoes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop the fault "empty list" if its entries have faults: pydantic counts them as missing."""
    around = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}
    return [
        detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in around
    ]


def _fault(detail: ErrorDetails, of: str, kind: type[BaseModel] | None) -> FieldFault:
    path = detail["loc"]
    is_key = path[-1:] == (_KEY,)
    param = ".".join(str(part) for part in (path[:-1] if is_key else path))
    if len(param) > MAX_PARAM_LENGTH:
        param = f"{param[:MAX_PARAM_LENGTH]}…"
    name = f"the name {param}" if is_key else param or of
    return FieldFault(param, _message(name, detail, kind))


def _message(name: str, detail: ErrorDetails, kind: type[BaseModel] | None) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _unknown(name, detail, kind)
        case "string_too_short" if context["min_length"] > 1:
            return f"{name} must have at least {context['min_length']} characters"
        case "string_too_short":
            return f"{name} must not be empty"
        case "value_error":
            return _validator_text(name, detail)
        case other:
            return f"{name} {MESSAGES.get(other, 'is not valid').format_map(_readable(context))}"


def _readable(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a message: numbers as short as possible, choices without quotes."""
    readable = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()
    }
    if "expected" in readable:
        readable["expected"] = str(readable["expected"]).replace("'", "")
    return readable


def _validator_text(name: str, detail: ErrorDetails) -> str:
    """Return the text of a validator, with the full path of its field at the beginning."""
    text = str(detail["ctx"]["error"])
    own = str(detail["loc"][-1]) if detail["loc"] else ""
    return f"{name}{text.removeprefix(own)}" if own and text.startswith(f"{own} ") else text


def _unknown(name: str, detail: ErrorDetails, kind: type[BaseModel] | None) -> str:
    if kind is not None:
        if (other := other_spelling(kind, detail["loc"])) is not None:
            return f"{name} and {other} are the same field: send one of them"
        if (near := near_field(kind, detail["loc"])) is not None:
            return f"{name} is not a known field: did you mean {near}?"
    return f"{name} is not a known field"
