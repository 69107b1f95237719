"""What the usage page is asked for: whose use, of which time, in which groups and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from admin_ui.widgets.time_range import Choice, TimeRange, read_time_range
from core.calendar import hour_of
from core.ids import Prefix, read_id, show_id
from models.accounts.names import KeyName, key_names, user_emails
from models.accounts.user import User, find_user_id
from models.database.base import Session
from models.usage.ranges import HOUR, WantedUsage
from models.usage.report import UsageGroup, UsageOrder

CHOICES = (
    Choice.TODAY,
    Choice.WEEK,
    Choice.THIRTY_DAYS,
    Choice.MONTH,
    Choice.LAST_MONTH,
    Choice.YEAR,
)
LONGEST = timedelta(days=400)
#: A chart of this many days has a bar for each hour.
HOURLY_DAYS = 3
MAX_LENGTH = 320
DEFAULT_SORT = "-tokens"
_IN_ORDER = {UsageGroup.DAY, UsageGroup.HOUR}


@dataclass(frozen=True, slots=True)
class Whose:
    """A user or a key that the report is limited to: its id as the API writes it, and its name."""

    id: UUID
    shown: str
    name: str


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """The question, read; nothing is looked up while there are faults.

    Attributes:
        faults: what is wrong with a field, by its name.
        given: the fields as they were written.
    """

    time: TimeRange
    by: UsageGroup
    order: UsageOrder
    is_descending: bool
    user: Whose | None
    key: Whose | None
    model: str
    given: Mapping[str, str]
    faults: Mapping[str, str]
    own_id: UUID | None

    @property
    def sort(self) -> str:
        return ("-" if self.is_descending else "") + self.order.value

    def wanted(self, now: datetime) -> WantedUsage:
        """Return the hours that are wanted, up to the present one."""
        present = hour_of(now) + HOUR
        since = self.time.since or present - LONGEST
        until = min(self.time.until or present, present)
        return WantedUsage(
            since,
            max(since, until),
            user_id=self.own_id or (self.user.id if self.user else None),
            key_id=self.key.id if self.key else None,
            model=self.model or None,
        )

    @property
    def arguments(self) -> dict[str, str]:
        """What an address carries to ask the same again."""
        filters = {
            "by": self.by.value,
            "user": self.user.shown if self.user else "",
            "key": self.key.shown if self.key else "",
            "model": self.model,
            "sort": "" if self.sort == default_sort(self.by) else self.sort,
        }
        return {**self.time.arguments, **{name: v for name, v in filters.items() if v}}


def default_sort(by: UsageGroup) -> str:
    return "-group" if by in _IN_ORDER else DEFAULT_SORT


def groups_for(viewer: User) -> list[tuple[str, str]]:
    """Return the groups that somebody may ask for: their values and names."""
    names = {"key": "API key", "model": "Model", "day": "Day", "hour": "Hour"}
    return [*({"user": "User"} if viewer.is_admin else {}).items(), *names.items()]


def read_usage_query(
    arguments: Mapping[str, str], session: Session, viewer: User, now: datetime
) -> UsageQuery:
    given = {name: _text(arguments, name) for name in ("user", "key", "model", "by", "sort")}
    time = read_time_range(arguments, now, choices=CHOICES, default=Choice.THIRTY_DAYS)
    faults = dict(time.faults)
    if time.first and (time.last or now.date()) - time.first > LONGEST:
        faults["from"] = f"Choose {LONGEST.days} days at most."
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
    # Ids of users and keys have no order that means anything to people.
    is_senseless = order is UsageOrder.GROUP and by in {UsageGroup.USER, UsageGroup.KEY}
    return UsageOrder.TOKENS if is_senseless else order


def _read_user(session: Session, text: str, faults: dict[str, str]) -> Whose | None:
    if not text:
        return None
    user_id = read_id(Prefix.USER, text)
    email = user_emails(session, {user_id}).get(user_id) if user_id else text.lower()
    if user_id is None:
        user_id = find_user_id(session, text)
    if user_id is None or email is None:
        faults["user"] = "No account has or had this email."
        return None
    return Whose(user_id, show_id(Prefix.USER, user_id), email)


def _read_key(session: Session, text: str, viewer: User, faults: dict[str, str]) -> Whose | None:
    if not text:
        return None
    key_id = read_id(Prefix.KEY, text)
    found: KeyName | None = key_names(session, [key_id]).get(key_id) if key_id else None
    if key_id is None or found is None or not (viewer.is_admin or found.owner_id == viewer.id):
        faults["key"] = "There is no such key. Its id looks like key_…"
        return None
    return Whose(key_id, show_id(Prefix.KEY, key_id), found.name)


def _text(arguments: Mapping[str, str], name: str) -> str:
    return arguments.get(name, "").replace("\x00", "").strip()[:MAX_LENGTH]
