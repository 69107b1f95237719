"""The time range of a page: a preset, or days that a person entered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
#: First and last day that ids and the database can represent.
_FIRST, _LAST = date(1970, 1, 2), date(9998, 12, 31)
_MAX_ZONE_LENGTH = 64


class TimePreset(StrEnum):
    """Ranges to choose from; each ends today, except `LAST_MONTH`."""

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
        """Return the first and the last day; `None` is unbounded."""
        month = today.replace(day=1)
        last_month = month - DAY
        first = {
            TimePreset.TODAY: today,
            TimePreset.WEEK: today - 6 * DAY,
            TimePreset.THIRTY_DAYS: today - 29 * DAY,
            TimePreset.MONTH: month,
            TimePreset.YEAR: today.replace(month=1, day=1),
        }
        if self is TimePreset.ALL:
            return None, None
        if self is TimePreset.LAST_MONTH:
            return last_month.replace(day=1), last_month
        return first[self], today


_LABELS = {
    TimePreset.ALL: "All time",
    TimePreset.TODAY: "Today",
    TimePreset.WEEK: "7 days",
    TimePreset.THIRTY_DAYS: "30 days",
    TimePreset.MONTH: "This month",
    TimePreset.LAST_MONTH: "Last month",
    TimePreset.YEAR: "This year",
}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Whole days of a time zone; `None` is unbounded.

    Attributes:
        preset: `None` if a person entered the days.
        faults: what is wrong with the entered days, by field name.
    """

    preset: TimePreset | None
    first: date | None
    last: date | None
    zone: tzinfo
    faults: Mapping[str, str]

    @property
    def since(self) -> datetime | None:
        return None if self.first is None else _midnight(self.first, self.zone)

    @property
    def until(self) -> datetime | None:
        """The exclusive end: midnight after the last day."""
        return None if self.last is None else _midnight(self.last + DAY, self.zone)

    @property
    def arguments(self) -> dict[str, str]:
        """The query parameters of a URL with the same range."""
        if self.preset is not None:
            return {"range": self.preset.value}
        days = {"from": self.first, "to": self.last}
        return {name: day.isoformat() for name, day in days.items() if day is not None}


def read_time_range(
    arguments: Mapping[str, str],
    now: datetime,
    *,
    presets: Sequence[TimePreset],
    default: TimePreset,
    zone: tzinfo = UTC,
) -> TimeRange:
    """Return the range that a query asks for, or `default`.

    A form sends its days together with the preset that filled them in. Unchanged days mean that
    preset, so that a bookmarked URL moves on with the calendar.
    """
    today = now.astimezone(zone).date()
    named = arguments.get("range")
    preset = next((preset for preset in presets if preset == named), default)
    preset_days = preset.days(today)
    if "from" not in arguments and "to" not in arguments:
        return TimeRange(preset, *preset_days, zone, {})
    faults: dict[str, str] = {}
    days = tuple(_read_day(arguments.get(name, ""), name, faults) for name in ("from", "to"))
    if faults:
        return TimeRange(preset, *preset_days, zone, faults)
    if days == preset_days:
        return TimeRange(preset, *preset_days, zone, {})
    first, last = days
    if first is None and last is None:
        return TimeRange(default, *default.days(today), zone, {})
    if first is not None and last is not None and last < first:
        return TimeRange(None, first, last, zone, {"to": "This is before the first day."})
    return TimeRange(None, first, last, zone, {})


def read_zone(name: str | None) -> tzinfo:
    """Return the time zone that a browser named, or UTC if the name is unknown."""
    if not name or len(name) > _MAX_ZONE_LENGTH:
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # an unknown zone raises a `KeyError`
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
