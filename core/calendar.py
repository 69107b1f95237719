"""The hours, days and months of UTC that limits, reports and pages count by.

Every function takes a moment in UTC and returns the first moment of a period.
"""

from __future__ import annotations

from datetime import datetime, timedelta

#: Added to the first moment of any month, it ends in the next one.
_LONGER_THAN_A_MONTH = timedelta(days=32)


def hour_of(moment: datetime) -> datetime:
    """Return the first moment of the hour that `moment` is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    """Return the first moment of the day that `moment` is in."""
    return hour_of(moment).replace(hour=0)


def month_of(moment: datetime) -> datetime:
    """Return the first moment of the month that `moment` is in."""
    return day_of(moment).replace(day=1)


def next_month(moment: datetime) -> datetime:
    """Return the first moment of the month after the one that `moment` is in."""
    return month_of(month_of(moment) + _LONGER_THAN_A_MONTH)
