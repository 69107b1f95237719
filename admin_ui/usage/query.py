"""The query of the usage page: time range, filters, groups and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from admin_ui.web.typed_text import query_text
from admin_ui.widgets.list_filters import UNKNOWN_USER
from admin_ui.widgets.time_range import TimePreset, TimeRange, read_time_range
from core.calendar import hour_of
from core.ids import Prefix, format_id, parse_id
from models.accounts.names import KeyName, key_names, user_emails
from models.accounts.user import User, find_user_id
from models.database.base import Session
from models.usage.ranges import HOUR, UsageScope
from models.usage.report import UsageGroup, UsageOrder

PRESETS = (
    TimePreset.TODAY,
    TimePreset.WEEK,
    TimePreset.THIRTY_DAYS,
    TimePreset.MONTH,
    TimePreset.LAST_MONTH,
    TimePreset.YEAR,
)
MAX_RANGE = timedelta(days=400)
#: Longest chart with a bar for each hour, in days.
HOURLY_DAYS = 3
DEFAULT_SORT = "-tokens"
_TIME_GROUPS = {UsageGroup.DAY, UsageGroup.HOUR}


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """The user or the key that a report is limited to.

    Attributes:
        id_text: the id, as the API writes it.
        name: the email of a user.
    """

    id: UUID
    id_text: str
    name: str


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A parsed query; a query with faults is not executed.

    Attributes:
        faults: what is wrong with a field, by name.
        given: the fields as entered.
        own_id: limits a customer to the own usage.
    """

    time: TimeRange
    by: UsageGroup
    order: UsageOrder
    is_descending: bool
    user: UsageFilter | None
    key: UsageFilter | None
    model: str
    given: Mapping[str, str]
    faults: Mapping[str, str]
    own_id: UUID | None

    @property
    def sort(self) -> str:
        return ("-" if self.is_descending else "") + self.order.value

    def wanted(self, now: datetime) -> UsageScope:
        """Return the hours of the report, up to and including the current one."""
        end = hour_of(now) + HOUR
        since = self.time.since or end - MAX_RANGE
        until = min(self.time.until or end, end)
        return UsageScope(
            since,
            max(since, until),
            user_id=self.own_id or (self.user.id if self.user else None),
            key_id=self.key.id if self.key else None,
            model=self.model or None,
        )

    @property
    def arguments(self) -> dict[str, str]:
        """The query parameters of a URL of the same report."""
        filters = {
            "by": self.by.value,
            "user": self.user.id_text if self.user else "",
            "key": self.key.id_text if self.key else "",
            "model": self.model,
            "sort": "" if self.sort == default_sort(self.by) else self.sort,
        }
        return {**self.time.arguments, **{name: v for name, v in filters.items() if v}}


def default_sort(by: UsageGroup) -> str:
    """Return the order of a report that names none; `-` means descending."""
    return "-group" if by in _TIME_GROUPS else DEFAULT_SORT


def groups_for(viewer: User) -> list[tuple[str, str]]:
    """Return value and label of each group that the viewer may choose."""
    names = {"key": "API key", "model": "Model", "day": "Day", "hour": "Hour"}
    return [*({"user": "User"} if viewer.is_admin else {}).items(), *names.items()]


def read_usage_query(
    arguments: Mapping[str, str], session: Session, viewer: User, now: datetime
) -> UsageQuery:
    """Read the query of the usage page, and look up its user and key."""
    given = {name: query_text(arguments, name) for name in ("user", "key", "model", "by", "sort")}
    time = read_time_range(arguments, now, presets=PRESETS, default=TimePreset.THIRTY_DAYS)
    faults = dict(time.faults)
    if time.first and (time.last or now.date()) - time.first > MAX_RANGE:
        faults["from"] = f"Choose {MAX_RANGE.days} days at most."
    by = _read_group(given["by"], viewer)
    sort = given["sort"] or default_sort(by)
    order = _read_order(sort, by)
    return UsageQuery(
        time=time,
        by=by,
        order=order,
        is_descending=sort.startswith("-"),
        user=_read_user(session, given["user"], faults) if viewer.is_admin else None,
        key=_read_key(session, given["key"], viewer, faults),
        model=given["model"][:200],
        given=given,
        faults=faults,
        own_id=None if viewer.is_admin else viewer.id,
    )


def _read_group(text: str, viewer: User) -> UsageGroup:
    allowed = [value for value, _ in groups_for(viewer)]
    return UsageGroup(text if text in allowed else allowed[0])


def _read_order(sort: str, by: UsageGroup) -> UsageOrder:
    name = sort.removeprefix("-")
    order = next((order for order in UsageOrder if order == name), UsageOrder.TOKENS)
    # The order of the ids of users and keys means nothing to a person.
    is_by_id = order is UsageOrder.GROUP and by in {UsageGroup.USER, UsageGroup.KEY}
    return UsageOrder.TOKENS if is_by_id else order


def _read_user(session: Session, text: str, faults: dict[str, str]) -> UsageFilter | None:
    if not text:
        return None
    user_id = parse_id(Prefix.USER, text)
    email = user_emails(session, {user_id}).get(user_id) if user_id else text.lower()
    if user_id is None:
        user_id = find_user_id(session, text)
    if user_id is None or email is None:
        faults["user"] = UNKNOWN_USER
        return None
    return UsageFilter(user_id, format_id(Prefix.USER, user_id), email)


def _read_key(
    session: Session, text: str, viewer: User, faults: dict[str, str]
) -> UsageFilter | None:
    if not text:
        return None
    key_id = parse_id(Prefix.KEY, text)
    found: KeyName | None = key_names(session, [key_id]).get(key_id) if key_id else None
    if key_id is None or found is None or not (viewer.is_admin or found.owner_id == viewer.id):
        faults["key"] = "There is no such key. Its id looks like key_…"
        return None
    return UsageFilter(key_id, format_id(Prefix.KEY, key_id), found.name)
