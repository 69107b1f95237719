"""Tokens that users and keys used in this month, to show and to sort by."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Subquery, func, select
from sqlalchemy.orm import Session

from core.calendar import month_of
from models.usage.ranges import HOUR, UsageScope, plan_ranges, select_ranges

Whose = Literal["user_id", "api_key_id"]


def month_usage(
    whose: Whose,
    now: datetime,
    closed: datetime | None,
    *,
    only: Collection[UUID] | None = None,
    user_id: UUID | None = None,
) -> Subquery:
    """Return rows of `id` and `tokens`: users or keys with usage in this month.

    The month is that of `now` in UTC.

    Args:
        closed: see `read_consistently`.
        only: include only these users or keys.
        user_id: include only this user and the user's keys.
    """
    since = month_of(now)
    wanted = UsageScope(since, now + HOUR, user_id=user_id)
    parts = plan_ranges(since, wanted.until, closed, is_by_key=True, longest=None)
    rows = select_ranges(parts, wanted, [whose, "prompt_tokens", "completion_tokens"])
    owner: Any = rows.c[whose]
    tokens = func.sum(rows.c.prompt_tokens + rows.c.completion_tokens).label("tokens")
    query = select(owner.label("id"), tokens)
    if only is not None:
        query = query.where(owner.in_(only))
    return query.group_by(owner).subquery()


def read_month_usage(
    session: Session,
    whose: Whose,
    ids: Collection[UUID],
    *,
    now: datetime,
    closed: datetime | None,
) -> dict[UUID, int]:
    """Return the tokens of these users or keys; omit those without usage."""
    if not ids:
        return {}
    used = month_usage(whose, now, closed, only=ids)
    return {found: int(tokens) for found, tokens in session.execute(select(used))}
