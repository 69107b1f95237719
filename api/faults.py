"""What a caller is told of a value that its model refuses: each fault by the name of its field."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.errors import FieldFault, InvalidRequest

#: More faults than this are not told: an answer must not grow with a hostile body.
MAX_FAULTS = 20
#: Nor more of the name of a field, which may be as long as the body.
MAX_PARAM_LENGTH = 200


def invalid(error: ValidationError, *, of: str = "the body") -> InvalidRequest:
    """Return what a caller is told of a body, or something else, that its model refuses."""
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        return InvalidRequest(f"{of} is not valid JSON", code="invalid_json")
    faults = [_fault(detail, of) for detail in details[:MAX_FAULTS]]
    return InvalidRequest(
        "; ".join(fault.message for fault in faults), param=faults[0].param or None, fields=faults
    )


def _fault(detail: ErrorDetails, of: str) -> FieldFault:
    param = ".".join(str(part) for part in detail["loc"])
    if len(param) > MAX_PARAM_LENGTH:
        param = f"{param[:MAX_PARAM_LENGTH]}…"
    return FieldFault(param, _message(param or of, detail))


def _message(name: str, detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{name} is not a known field"
        case "model_type":
            return f"{name} must be a JSON object"
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
