"""Pages of a list: the page that a request asks for, and the URLs of the other pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from flask import request, url_for

from admin_ui.web.typed_text import query_text
from models.database.pagination import Keyset

PAGE_LENGTH = 50
#: Highest page number; a search reaches later rows.
MAX_PAGES = 10_000

S = TypeVar("S", bound=StrEnum)
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class ListPage(Generic[S]):
    """One numbered page of a sorted list.

    Attributes:
        sort: the column of the order.
        number: from 1.
        limit: rows.
    """

    sort: S
    is_descending: bool
    number: int
    limit: int = PAGE_LENGTH

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.limit

    @property
    def sorted_by(self) -> str:
        """The order as a query parameter: `-` means descending."""
        return f"-{self.sort}" if self.is_descending else str(self.sort)

    def sorted_url(self, sort: str) -> str:
        """Return the URL of the first page in another order."""
        return _url(sort=sort, page=None)

    def previous_url(self) -> str | None:
        return _url(page=self.number - 1) if self.number > 1 else None

    def next_url(self, total: int) -> str | None:
        return _url(page=self.number + 1) if self.offset + self.limit < total else None

    def range_text(self, total: int) -> str:
        """Return which rows of how many the page has."""
        last = min(self.offset + self.limit, total)
        if total <= self.limit or last <= self.offset:
            return f"{total:,} in all"
        return f"{self.offset + 1:,} to {last:,} of {total:,}"


def read_list_page(default: S) -> ListPage[S]:
    """Return the page that the query asks for.

    Args:
        default: sorts the list, descending, if the query names no valid order.
    """
    text = request.args.get("sort", f"-{default}")
    try:
        sort, is_descending = type(default)(text.removeprefix("-")), text.startswith("-")
    except ValueError:
        sort, is_descending = default, True
    return ListPage(sort, is_descending, read_page_number())


def read_page_number() -> int:
    """Return the page number of the query, or 1 if it has no valid one."""
    return min(max(1, request.args.get("page", 1, type=int)), MAX_PAGES)


def read_search() -> str:
    """Return the text that the list is searched for."""
    return query_text(request.args, "q")


def read_choice(name: str, choices: type[S]) -> S | None:
    """Return the member that a query parameter names, or `None`."""
    try:
        return choices(request.args.get(name, ""))
    except ValueError:
        return None


def keyset_urls(
    page: Keyset[Row], id_of: Callable[[Row], str], url: Callable[..., str]
) -> dict[str, str | None]:
    """Return the URLs of the newer and the older page; `None` where there is none.

    Args:
        url: returns the URL of the list, given `before` or `after` and an id.
    """
    rows = page.rows
    return {
        "newer": url(before=id_of(rows[0])) if page.has_before and rows else None,
        "older": url(after=id_of(rows[-1])) if page.has_after and rows else None,
    }


def _url(**changes: Any) -> str:
    arguments = {**request.args.to_dict(), **changes}
    given = {name: value for name, value in arguments.items() if value not in {None, ""}}
    # `url_for` would interpret some parameters of a query, such as `endpoint`, as its own.
    path = url_for(request.endpoint or "", **(request.view_args or {}))
    return f"{path}?{urlencode(given)}" if given else path
