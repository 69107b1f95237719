"""Lists with a cursor, the last id of a page: `?limit=&after=` in, `{data, nextCursor}` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from flask import request

from api.http.query import read_number
from core.errors import InvalidRequest
from core.ids import Prefix, format_id, parse_id
from models.database.pagination import Keyset

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class _HasId(Protocol):
    @property
    def id(self) -> Any: ...


Row = TypeVar("Row", bound=_HasId)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The requested page of a list: `limit` rows after the id `after`."""

    prefix: Prefix
    limit: int
    after: UUID | None


def read_page(prefix: Prefix) -> PageRequest:
    """Return the page that the query requests.

    Raises:
        InvalidRequest: `limit` is out of range, or `after` is not a cursor.
    """
    limit = read_number("limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
    cursor = request.args.get("after")
    after = parse_id(prefix, cursor) if cursor else None
    if cursor and after is None:
        raise InvalidRequest("after must be the nextCursor of a page of this list", param="after")
    return PageRequest(prefix, limit, after)


def serialize_page(
    found: Keyset[Row], page: PageRequest, serialize: Callable[[Row], dict[str, Any]]
) -> dict[str, Any]:
    """Return one page as JSON."""
    return {
        "data": [serialize(row) for row in found.rows],
        "nextCursor": format_id(page.prefix, found.rows[-1].id) if found.has_after else None,
    }
