"""Which part of a sorted list a page shows, and the addresses of its other parts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from flask import request, url_for

PAGE_LENGTH = 50
#: Nobody pages so far by hand: search does it.
MOST_PAGES = 10_000
MAX_SEARCH_LENGTH = 320

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ListPage(Generic[S]):
    """One page of a list.

    Attributes:
        sort: what it is sorted by, downwards where `is_descending`.
        number: of the page, from 1.
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
        """The order as an address has it: `-` is downwards."""
        return f"-{self.sort}" if self.is_descending else str(self.sort)

    def sorted_address(self, sort: str) -> str:
        """Return the address of the list in another order, from its beginning."""
        return _address(sort=sort, page=None)

    def before(self) -> str | None:
        return _address(page=self.number - 1) if self.number > 1 else None

    def after(self, total: int) -> str | None:
        return _address(page=self.number + 1) if self.offset + self.limit < total else None

    def shown(self, total: int) -> str:
        """Say which of how many are shown."""
        last = min(self.offset + self.limit, total)
        if total <= self.limit or last <= self.offset:
            return f"{total:,} in all"
        return f"{self.offset + 1:,} to {last:,} of {total:,}"


def read_list_page(default: S) -> ListPage[S]:
    """Return the page that the address asks for; newest or largest first unless it says else."""
    text = request.args.get("sort", f"-{default}")
    try:
        sort, is_descending = type(default)(text.removeprefix("-")), text.startswith("-")
    except ValueError:
        sort, is_descending = default, True
    return ListPage(sort, is_descending, read_page_number())


def read_page_number() -> int:
    """Return the page that the address asks for, from 1; anything else is the first."""
    return min(max(1, request.args.get("page", 1, type=int)), MOST_PAGES)


def read_search(name: str = "q") -> str:
    """Return what is looked for; the database knows no zero characters."""
    return request.args.get(name, "").replace("\x00", "").strip()[:MAX_SEARCH_LENGTH]


def read_choice(name: str, choices: type[S]) -> S | None:
    """Return what was chosen; anything else is no choice."""
    try:
        return choices(request.args.get(name, ""))
    except ValueError:
        return None


def _address(**changes: Any) -> str:
    arguments = {**request.args.to_dict(), **changes}
    kept = {name: value for name, value in arguments.items() if value not in {None, ""}}
    # Not by `url_for`: it would take some names of the query, such as `endpoint`, for its own.
    path = url_for(request.endpoint or "", **(request.view_args or {}))
    return f"{path}?{urlencode(kept)}" if kept else path
