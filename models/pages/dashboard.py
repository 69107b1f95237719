"""The figures of the first page, for all users or for one.

Their cost does not grow with the number of jobs. Days and months begin at midnight UTC. Figures of
longer times come from roll-ups, those of the last hour from the rows of usage, which are stored in
the order of their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core.calendar import day_of, hour_of, month_of
from models.accounts.api_key import ApiKey, is_active_key
from models.accounts.user import User
from models.usage.ranges import DAY, HOUR, UsageScope
from models.usage.report import UsageGroup, UsageTotals, list_usage, sum_usage_by_name

MINUTES = 60


class Period(StrEnum):
    TODAY = "today"
    #: Up to this hour of the day.
    YESTERDAY_SO_FAR = "yesterdaySoFar"
    MONTH = "month"
    #: Up to this day and hour of the month.
    LAST_MONTH_SO_FAR = "lastMonthSoFar"


class SeriesStep(StrEnum):
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of users and keys.

    Attributes:
        users: existing users; 1 in the figures of one user.
        recent_users: users who used a key within the last day.
        keys: existing keys; `active_keys` of them are usable (`is_active_key`).
        recent_keys: keys that were used within the last day.
    """

    users: int
    recent_users: int
    keys: int
    active_keys: int
    recent_keys: int


@dataclass(frozen=True, slots=True)
class Minute:
    """The jobs that ended in one minute.

    `p50_ms` and `p95_ms` are `None` if no job ended.
    """

    begins_at: datetime
    requests: int = 0
    succeeded: int = 0
    tokens: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LastHour:
    """The last sixty minutes, as a whole and one by one.

    The oldest minute comes first, and the last minute ends now.
    """

    whole: Minute
    minutes: Sequence[Minute]

    @property
    def requests_per_minute(self) -> int:
        return self.minutes[-1].requests

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second of the jobs that ended in the last minute."""
        return self.minutes[-1].tokens / 60

    @property
    def success_rate(self) -> float | None:
        return self.whole.succeeded / self.whole.requests if self.whole.requests else None


def read_totals(session: Session, now: datetime, *, user_id: UUID | None = None) -> Totals:
    """Count users and keys."""
    is_recent = ApiKey.last_used_at > now - DAY
    users = select(func.count()).select_from(User).where(User.deleted_at.is_(None))
    if user_id is not None:
        users = users.where(User.id == user_id)
    totals = (
        select(
            users.correlate(None).scalar_subquery(),
            func.count(ApiKey.user_id.distinct()).filter(is_recent),
            func.count().filter(ApiKey.deleted_at.is_(None)),
            func.count().filter(is_active_key(now)),
            func.count().filter(is_recent),
        )
        .select_from(ApiKey)
        .join(User, User.id == ApiKey.user_id)
    )
    if user_id is not None:
        totals = totals.where(ApiKey.user_id == user_id)
    return Totals(*session.execute(totals).one())


def read_periods(
    session: Session, now: datetime, *, user_id: UUID | None = None
) -> dict[Period, UsageTotals]:
    """Return the sums of today, this month and the periods to compare them with."""
    until = hour_of(now) + HOUR
    today = day_of(now)
    month = month_of(today)
    last_month = month_of(month - DAY)
    times = {
        Period.TODAY: (today, until),
        Period.YESTERDAY_SO_FAR: (today - DAY, until - DAY),
        Period.MONTH: (month, until),
        Period.LAST_MONTH_SO_FAR: (last_month, min(last_month + (until - month), month)),
    }
    wanted = {name.value: UsageScope(*time, user_id=user_id) for name, time in times.items()}
    found = sum_usage_by_name(session, wanted)
    return {name: found[name] for name in times}


def read_series(
    session: Session, now: datetime, step: SeriesStep, *, count: int, user_id: UUID | None = None
) -> list[UsageTotals]:
    """Return the usage of the last `count` hours or days, oldest first.

    Includes hours and days without usage.
    """
    length = HOUR if step is SeriesStep.HOUR else DAY
    last = hour_of(now) if step is SeriesStep.HOUR else day_of(now)
    begins = [last - n * length for n in reversed(range(count))]
    wanted = UsageScope(begins[0], hour_of(now) + HOUR, user_id=user_id)
    by = UsageGroup.HOUR if step is SeriesStep.HOUR else UsageGroup.DAY
    rows = list_usage(session, wanted, by, after=None, limit=count)
    found = {sums.group: sums for sums in rows}
    return [found.get(at) or UsageTotals(group=at) for at in begins]


def read_last_hour(session: Session, now: datetime, *, user_id: UUID | None = None) -> LastHour:
    """Return the jobs that ended within the last sixty minutes, in sums."""
    since = now - timedelta(minutes=MINUTES)
    rows = session.execute(_MINUTES, {"since": since, "now": now, "user_id": user_id})
    minutes = [Minute(since + timedelta(minutes=n)) for n in range(MINUTES)]
    whole = Minute(since)
    for place, *values in rows:
        if place is None:
            whole = Minute(since, *values)
        else:
            minutes[place] = Minute(minutes[place].begins_at, *values)
    return LastHour(whole, minutes)


#: Minutes are counted back from now, so the last one is as long as the others.
_MINUTES = text(
    f"""
    select least({MINUTES - 1}, floor(extract(epoch from created_at - :since) / 60)::int) as place,
        count(*), count(*) filter (where state = 'succeeded'),
        coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint,
        percentile_disc(0.5) within group (order by duration_ms),
        percentile_disc(0.95) within group (order by duration_ms)
    from usage
    where created_at >= :since and created_at <= :now
        and (cast(:user_id as uuid) is null or user_id = :user_id)
    group by grouping sets ((1), ())
    """
)
