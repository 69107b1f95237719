"""The time that a page is about: one of the quick choices, or days that somebody wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
#: Days that ids and the database can hold.
_FIRST, _LAST = date(1970, 1, 2), date(9998, 12, 31)


class Choice(StrEnum):
    """The quick choices; all end with today, but `LAST_MONTH`."""

    ALL = "all"
    TODAY = "today"
    WEEK = "7d"
    THIRTY_DAYS = "30d"
    MONTH = "month"
    LAST_MONTH = "last-month"
    YEAR = "year"

    @property
    def label(self) -> str:
        return _LABELS[self]

    def days(self, today: date) -> tuple[date | None, date | None]:
        """Return the first and the last day; `None` where there is no end."""
        month = today.replace(day=1)
        last_month = month - DAY
        first = {
            Choice.TODAY: today,
            Choice.WEEK: today - 6 * DAY,
            Choice.THIRTY_DAYS: today - 29 * DAY,
            Choice.MONTH: month,
            Choice.YEAR: today.replace(month=1, day=1),
        }
        if self is Choice.ALL:
            return None, None
        if self is Choice.LAST_MONTH:
            return last_month.replace(day=1), last_month
        return first[self], today


_LABELS = {
    Choice.ALL: "All time",
    Choice.TODAY: "Today",
    Choice.WEEK: "7 days",
    Choice.THIRTY_DAYS: "30 days",
    Choice.MONTH: "This month",
    Choice.LAST_MONTH: "Last month",
    Choice.YEAR: "This year",
}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Whole days of a zone, `None` where there is no end.

    Attributes:
        choice: `None` for days of somebody's own.
        faults: what is wrong with the days that were written, by the names of their fields.
    """

    choice: Choice | None
    first: date | None
    last: date | None
    zone: tzinfo
    faults: Mapping[str, str]

    @property
    def since(self) -> datetime | None:
        return None if self.first is None else _midnight(self.first, self.zone)

    @property
    def until(self) -> datetime | None:
        """The end of the last day, which is not included."""
        return None if self.last is None else _midnight(self.last + DAY, self.zone)

    @property
    def arguments(self) -> dict[str, str]:
        """What an address carries to mean this range again."""
        if self.choice is not None:
            return {"range": self.choice.value}
        days = {"from": self.first, "to": self.last}
        return {name: day.isoformat() for name, day in days.items() if day is not None}


def read_time_range(
    arguments: Mapping[str, str],
    now: datetime,
    *,
    choices: Sequence[Choice],
    default: Choice,
    zone: tzinfo = UTC,
) -> TimeRange:
    """Return the range that a query asks for; `default` if it asks for none.

    A form sends its days along with the choice that they came from: unchanged they mean that choice
    still, tomorrow too.
    """
    today = now.astimezone(zone).date()
    named = arguments.get("range")
    choice = next((choice for choice in choices if choice == named), default)
    of_choice = choice.days(today)
    if "from" not in arguments and "to" not in arguments:
        return TimeRange(choice, *of_choice, zone, {})
    faults: dict[str, str] = {}
    days = tuple(_read_day(arguments.get(name, ""), name, faults) for name in ("from", "to"))
    if faults:
        return TimeRange(choice, *of_choice, zone, faults)
    if days == of_choice:
        return TimeRange(choice, *of_choice, zone, {})
    first, last = days
    if first is None and last is None:
        return TimeRange(default, *default.days(today), zone, {})
    if first is not None and last is not None and last < first:
        return TimeRange(None, first, last, zone, {"to": "This is before the first day."})
    return TimeRange(None, first, last, zone, {})


def read_zone(name: str | None) -> tzinfo:
    """Return the zone that a browser named; UTC if it named none that we know."""
    if not name or len(name) > 64:
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # not found is a `KeyError`
        return UTC


def _read_day(text: str, name: str, faults: dict[str, str]) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        faults[name] = "Write a day as 2026-01-31."
        return None
    if not _FIRST <= day <= _LAST:
        faults[name] = "There is no such time."
        return None
    return day


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
