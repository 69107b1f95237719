"""Filters of the lists of jobs, batches and audit entries, read from the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from flask import request

from admin_ui.web.access import owner_filter, viewer
from admin_ui.web.page import database, present_time
from admin_ui.web.typed_text import query_text
from admin_ui.widgets.own_keys import key_options, own_keys
from admin_ui.widgets.time_range import TimePreset, TimeRange, read_time_range, read_zone
from core.ids import Prefix, parse_id
from models.accounts.names import user_emails
from models.accounts.user import find_user_id

PRESETS = (TimePreset.ALL, TimePreset.TODAY, TimePreset.WEEK, TimePreset.THIRTY_DAYS)
UNKNOWN_USER = "No account has or had this email."

State = TypeVar("State", bound=StrEnum)


def read_ids(prefix: Prefix, *, limit: int) -> list[UUID]:
    """Return the valid ids of `?ids=`, a comma-separated list, of its first `limit` entries."""
    texts = request.args.get("ids", "").split(",", limit)[:limit]
    return [found for text in texts if (found := parse_id(prefix, text)) is not None]


def read_time_filter() -> TimeRange:
    """Return the time range of the query, in the time zone of the browser."""
    zone = read_zone(request.args.get("zone"))
    return read_time_range(
        request.args, present_time(), presets=PRESETS, default=TimePreset.ALL, zone=zone
    )


def find_named_user(text: str) -> tuple[UUID, str] | None:
    """Return the id and the email of a user, also of a deleted one.

    Args:
        text: an id or an email. An unknown id is returned in place of the email.
    """
    user_id = parse_id(Prefix.USER, text) or find_user_id(database(), text)
    if user_id is None:
        return None
    return user_id, user_emails(database(), {user_id}).get(user_id, text)


@dataclass(slots=True)
class ListFilters:
    """The filters of a list.

    Attributes:
        values: the filters that the query sets, by name.
        faults: what is wrong with a filter, by name. A list with faults has no rows.
        user_id: the owner of the rows; `None` for rows of all users.
    """

    time: TimeRange
    values: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    user_id: UUID | None = None
    key_id: UUID | None = None

    @classmethod
    def read(cls, names: Sequence[str]) -> ListFilters:
        """Read the filters of the current request.

        Args:
            names: the filters that the list has.
        """
        time = read_time_filter()
        values = {name: text for name in names if (text := query_text(request.args, name))}
        filters = cls(time, values, dict(time.faults), owner_filter())
        filters._read_user()
        filters._read_key()
        return filters

    @property
    def arguments(self) -> dict[str, str]:
        """The query parameters of a URL of the same list."""
        time = {} if self.time.preset is PRESETS[0] else self.time.arguments
        zone = {"zone": request.args["zone"]} if time and "zone" in request.args else {}
        return {**self.values, **time, **zone}

    @property
    def is_empty(self) -> bool:
        return not self.arguments

    def member(self, name: str, kind: type[State]) -> State | None:
        """Return the member of an enum that a filter names, or `None`."""
        return next((member for member in kind if member == self.values.get(name)), None)

    def _read_user(self) -> None:
        text = self.values.get("user")
        if text is None or not viewer().is_admin:
            return
        found = find_named_user(text)
        if found is None:
            self.user_id, self.faults["user"] = None, UNKNOWN_USER
        else:
            self.user_id, self.values["user"] = found

    def _read_key(self) -> None:
        if text := self.values.get("key"):
            self.key_id = parse_id(Prefix.KEY, text)
            if self.key_id is None:
                self.faults["key"] = "Write the id of a key: key_…"


def own_key_choices() -> list[tuple[str, str]] | None:
    """Return a customer's keys as options; `None` for an admin, who types the id of a key."""
    return None if viewer().is_admin else [("", "all"), *key_options(own_keys())]
