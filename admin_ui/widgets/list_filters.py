"""What the lists of jobs and of batches are narrowed by: the query's words, read and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from flask import request

from admin_ui.web.access import own_rows, viewer
from admin_ui.web.page import database, present_time
from admin_ui.widgets.time_range import Choice, TimeRange, read_time_range, read_zone
from core.ids import Prefix, read_id, show_id
from models.accounts.api_key import list_keys
from models.accounts.names import user_emails
from models.accounts.user import find_user_id

CHOICES = (Choice.ALL, Choice.TODAY, Choice.WEEK, Choice.THIRTY_DAYS)
MOST_KEYS = 200
MAX_LENGTH = 320

State = TypeVar("State", bound=StrEnum)


def text_of(name: str) -> str:
    """Return a word of the query; NUL stands in no column."""
    return request.args.get(name, "").replace("\x00", "").strip()[:MAX_LENGTH]


def ids_of(prefix: Prefix, *, most: int) -> list[UUID]:
    """Return the ids that the query names; what is none is left out."""
    texts = request.args.get("ids", "").split(",", most)[:most]
    return [found for text in texts if (found := read_id(prefix, text)) is not None]


@dataclass(slots=True)
class ListFilters:
    """The filters of a list.

    Attributes:
        words: as they were written, without those that say nothing.
        faults: what is wrong with them, by their names; then nothing is listed.
        user_id: whose rows, `None` for everybody's.
    """

    time: TimeRange
    words: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    user_id: UUID | None = None
    key_id: UUID | None = None

    @classmethod
    def read(cls, names: Sequence[str]) -> ListFilters:
        """Read the filters of the present request; `names` are those that the list has."""
        zone = read_zone(request.args.get("zone"))
        time = read_time_range(
            request.args, present_time(), choices=CHOICES, default=Choice.ALL, zone=zone
        )
        words = {name: text for name in names if (text := text_of(name))}
        filters = cls(time, words, dict(time.faults), own_rows())
        filters._read_user()
        filters._read_key()
        return filters

    @property
    def arguments(self) -> dict[str, str]:
        """What an address carries to mean the same list."""
        time = {} if self.time.choice is CHOICES[0] else self.time.arguments
        zone = {"zone": request.args["zone"]} if time and "zone" in request.args else {}
        return {**self.words, **time, **zone}

    @property
    def is_empty(self) -> bool:
        return not self.arguments

    def one_of(self, name: str, kind: type[State]) -> State | None:
        """Return the member that a word names; none of them is no filter."""
        return next((member for member in kind if member == self.words.get(name)), None)

    def _read_user(self) -> None:
        word = self.words.get("user")
        if word is None or not viewer().is_admin:
            return
        self.user_id = read_id(Prefix.USER, word) or find_user_id(database(), word)
        if self.user_id is None:
            self.faults["user"] = "No account has or had this email."
            return
        self.words["user"] = user_emails(database(), {self.user_id}).get(self.user_id, word)

    def _read_key(self) -> None:
        if word := self.words.get("key"):
            self.key_id = read_id(Prefix.KEY, word)
            if self.key_id is None:
                self.faults["key"] = "Write the id of a key: key_…"


def key_options() -> list[tuple[str, str]] | None:
    """Return a customer's own keys to choose from; an admin writes a key's id."""
    if viewer().is_admin:
        return None
    keys = list_keys(database(), user_id=viewer().id, after=None, limit=MOST_KEYS)
    return [("", "all"), *((show_id(Prefix.KEY, key.id), key.name) for key in keys.rows)]
