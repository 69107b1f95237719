"""Reads JSON into a model: the text of a body, or of one line of a file."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.http.field_faults import invalid_request
from api.http.json_fault import json_fault

M = TypeVar("M", bound=BaseModel)

BOM = b"\xef\xbb\xbf"
_HALF_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def read_json(
    kind: type[M],
    data: bytes,
    *,
    of: str,
    is_line: bool = False,
    context: dict[str, Any] | None = None,
) -> M:
    """Return the JSON in `data` as `kind`.

    Half of a character's escape (`\\ud83d` alone) becomes U+FFFD: programs that cut texts by length
    send it, and no text can hold it.

    Args:
        of: how the text is called in errors: "the body".
        is_line: the text is one line of a file.
        context: what validators are handed.

    Raises:
        InvalidRequest: `invalid_json`, or one fault for each wrong field.
    """
    data = data.removeprefix(BOM)
    try:
        return kind.model_validate_json(data, context=context)
    except ValidationError as error:
        reason = _syntax_error(error)
        if reason is None:
            raise invalid_request(error, of=of, kind=kind) from None
    whole = _without_halves(data)
    if whole is None:
        raise json_fault(data, reason, of=of, is_line=is_line) from None
    return read_json(kind, whole, of=of, is_line=is_line, context=context)


def _syntax_error(error: ValidationError) -> str | None:
    """Return the parser's reason, if the text is no JSON."""
    if error.error_count() != 1:
        return None
    (detail,) = error.errors(include_url=False, include_input=False)
    return str(detail["ctx"]["error"]) if detail["type"] == "json_invalid" else None


def _without_halves(data: bytes) -> bytes | None:
    """Return the JSON with U+FFFD for each half character; `None` if there is none."""
    if not _HALF_ESCAPE.search(data):
        return None
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    mended, count = _HALF_CHARACTER.subn("�", text)
    return mended.encode() if count else None
