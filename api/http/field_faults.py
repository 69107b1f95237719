"""What a caller is told of a value that its model refuses: each fault by the name of its field.

The texts are our own: those of the library name its types, and change with its version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.http.near_field import known_otherwise, near_field
from core.errors import FieldFault, InvalidRequest

#: More faults than this are not told: an answer must not grow with a hostile body.
MAX_FAULTS = 20
#: A list of more than this takes long to make: it is not made.
MAX_COUNTED = 5000
#: Nor more of the name of a field, which may be as long as the body.
MAX_PARAM_LENGTH = 200
#: What pydantic says at the end of the place of a wrong key.
_KEY = "[key]"

#: What follows the name of the field, by pydantic's type of the error.
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
#: Those whose text is made another way.
_MADE = frozenset({"extra_forbidden", "string_too_short", "value_error"})
#: All types of errors that have words of ours.
KNOWN_TYPES = MESSAGES.keys() | _MADE


def invalid(
    error: ValidationError, *, of: str = "the body", kind: type[BaseModel] | None = None
) -> InvalidRequest:
    """Return what a caller is told of a body, or something else, that its model refuses.

    Args:
        of: how it is called.
        kind: the model, whose fields are suggested for unknown ones.
    """
    if error.error_count() > MAX_COUNTED:
        return InvalidRequest(f"{of} has {error.error_count()} faults, too many to list")
    details = _without_echoes(error.errors(include_url=False, include_input=False))
    faults = [_fault(detail, of, kind) for detail in details[:MAX_FAULTS]]
    return InvalidRequest(
        "; ".join(fault.message for fault in faults), param=faults[0].param or None, fields=faults
    )


def _without_echoes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is empty where its entries are at fault: they count as missing."""
    around = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}
    return [
        detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in around
    ]


def _fault(detail: ErrorDetails, of: str, kind: type[BaseModel] | None) -> FieldFault:
    place = detail["loc"]
    is_key = place[-1:] == (_KEY,)
    param = ".".join(str(part) for part in (place[:-1] if is_key else place))
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
            return _own_words(name, detail)
        case other:
            return f"{name} {MESSAGES.get(other, 'is not valid').format_map(_shown(context))}"


def _shown(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a text may name, numbers as short as they can be, choices without quotes."""
    shown = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()
    }
    if "expected" in shown:
        shown["expected"] = str(shown["expected"]).replace("'", "")
    return shown


def _own_words(name: str, detail: ErrorDetails) -> str:
    """Return a validator's text, which begins with the name of its field, with the whole name."""
    text = str(detail["ctx"]["error"])
    own = str(detail["loc"][-1]) if detail["loc"] else ""
    return f"{name}{text.removeprefix(own)}" if own and text.startswith(f"{own} ") else text


def _unknown(name: str, detail: ErrorDetails, kind: type[BaseModel] | None) -> str:
    if kind is not None:
        if (other := known_otherwise(kind, detail["loc"])) is not None:
            return f"{name} and {other} are the same field: send one of them"
        if (near := near_field(kind, detail["loc"])) is not None:
            return f"{name} is not a known field: did you mean {near}?"
    return f"{name} is not a known field"
