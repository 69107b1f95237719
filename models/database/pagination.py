"""Pages of lists: numbered pages where counting is cheap, otherwise keyset pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import Session

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Numbered(Generic[T]):
    """Some rows of a list, and the number of all its rows."""

    rows: list[T]
    total: int


@dataclass(frozen=True, slots=True)
class Keyset(Generic[T]):
    """Rows in the order of the list, and whether others come before and after them.

    The next page is `after` the last row, the previous page is `before` the first row.
    """

    rows: list[T]
    has_before: bool
    has_after: bool

    def of(self, convert: Callable[[list[T]], list[U]]) -> Keyset[U]:
        """Return the same page with converted rows."""
        return Keyset(convert(self.rows), self.has_before, self.has_after)


def merge_keysets(
    pages: Sequence[Keyset[T]], key: Callable[[T], Any], *, limit: int, is_back: bool
) -> Keyset[T]:
    """Merge pages of several lists into one, the greatest key first.

    All pages were read from the same mark.

    Args:
        is_back: whether the pages come before the mark.
    """
    rows = sorted((row for page in pages for row in page.rows), key=key, reverse=True)
    has_more = len(rows) > limit
    if is_back:
        has_before = has_more or any(page.has_before for page in pages)
        return Keyset(rows[-limit:], has_before, has_after=True)
    has_after = has_more or any(page.has_after for page in pages)
    return Keyset(rows[:limit], pages[0].has_before, has_after)


def read_keyset(
    session: Session,
    query: Select[Any],
    column: ColumnElement[Any] | Any,
    *,
    after: Any = None,
    before: Any = None,
    limit: int,
    is_descending: bool = True,
) -> Keyset[Any]:
    """Return a page of a list that is ordered by a unique column.

    The page comes directly after the value `after` or before the value `before`. Without both it is
    the first page. Its rows are those of the query.
    """
    is_back = before is not None
    goes_down = is_descending is not is_back
    mark = before if is_back else after
    if mark is not None:
        query = query.where(column < mark if goes_down else column > mark)
    order = column.desc() if goes_down else column.asc()
    found: Sequence[Any] = session.execute(query.order_by(order).limit(limit + 1)).all()
    has_more = len(found) > limit
    rows = list(found[:limit])
    if is_back:
        return Keyset(rows[::-1], has_before=has_more, has_after=True)
    return Keyset(rows, has_before=after is not None, has_after=has_more)


def read_entities(
    session: Session,
    query: Select[T],
    column: ColumnElement[Any] | Any,
    *,
    after: Any = None,
    before: Any = None,
    limit: int,
    is_descending: bool = True,
) -> Keyset[T]:
    """Return a page as `read_keyset` does, for a query of whole rows of one table."""
    page = read_keyset(
        session,
        query,
        column,
        after=after,
        before=before,
        limit=limit,
        is_descending=is_descending,
    )
    return page.of(lambda rows: [row[0] for row in rows])
