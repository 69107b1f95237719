"""Pages of lists as in OpenAI's API: `?limit=&after=`, and `has_more` in the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import request

from api.http.query import read_number
from core.errors import InvalidRequest
from core.ids import Prefix, parse_id


def read_limit(*, default: int, most: int) -> int:
    """Return the requested size of a page.

    Raises:
        InvalidRequest: `limit` is not a number from 1 to `most`.
    """
    return read_number("limit", default=default, least=1, most=most)


def read_after(prefix: Prefix) -> UUID | None:
    """Return the id after which the page begins.

    Raises:
        InvalidRequest: `after` is not an id with this prefix.
    """
    text = request.args.get("after")
    found = parse_id(prefix, text) if text else None
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
