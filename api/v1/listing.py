"""Lists as OpenAI's clients page through them: `?limit=&after=`, `has_more` in the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import request

from api.http.query import read_number
from core.errors import InvalidRequest
from core.ids import Prefix, read_id


def read_limit(*, default: int, most: int) -> int:
    """Return how many are wanted.

    Raises:
        InvalidRequest: it is not a number in range.
    """
    return read_number("limit", default=default, least=1, most=most)


def read_after(prefix: Prefix) -> UUID | None:
    """Return the id behind which the list goes on.

    Raises:
        InvalidRequest: it is none of this list's.
    """
    text = request.args.get("after")
    found = read_id(prefix, text) if text else None
    if text and found is None:
        raise InvalidRequest("after must be an id of this list", param="after")
    return found


def serialize_list(page: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page as JSON."""
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": has_more,
    }
