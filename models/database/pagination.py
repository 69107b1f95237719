"""Pages of lists: by number where all that matches is few enough to count, else from row to row."""

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
    """Some rows of a list, and how many it has in all."""

    rows: list[T]
    total: int


@dataclass(frozen=True, slots=True)
class Keyset(Generic[T]):
    """Rows in the order of the list, and whether it has others before and behind them.

    The page behind is the one `after` the last row, the page before the one `before` the first.
    """

    rows: list[T]
    has_before: bool
    has_after: bool

    def of(self, convert: Callable[[list[T]], list[U]]) -> Keyset[U]:
        """Return the same page with other rows."""
        return Keyset(convert(self.rows), self.has_before, self.has_after)


def merge_keysets(
    pages: Sequence[Keyset[T]], key: Callable[[T], Any], *, limit: int, is_back: bool
) -> Keyset[T]:
    """Return one page of several lists that are read from the same mark, the greatest key first.

    Args:
        is_back: whether the pages are those before a mark.
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
    """Return a page of a list that is ordered by a unique column: behind `after`, or `before`.

    Without either it is the first. Rows are those of the query.
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
    """Return a page as `read_keyset` does, of a query for whole rows of one table."""
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
