"""What a new key takes over from the keys that its owner deleted before.

To delete a key and make another one must not give its month back, nor the limits that an admin has
lowered. What a deleted key used is carried by one living key: the next that its owner gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.limit_state import month_began
from models.api_key import ApiKey
from models.base import database_now
from models.flight import reserved_tokens
from models.usage import UsageHourly

#: Limits that stay lowered; a key that was switched off, or has expired, is replaced by a good one.
_LASTING = frozenset({"rate_limit", "token_limit", "monthly_token_limit", "max_in_flight"})


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What deleted keys leave to the next one.

    Attributes:
        key_ids: the deleted keys.
        holds: limits that an admin has lowered, the lowest of each.
    """

    key_ids: Sequence[UUID]
    holds: dict[str, Any]


def find_inheritance(session: Session, user_id: UUID) -> Inheritance:
    """Return what the deleted keys of a user leave, those that no key took over.

    Lock the user before: two keys must not take over the same.
    """
    rows = session.execute(
        select(ApiKey.id, ApiKey.holds).where(
            ApiKey.user_id == user_id,
            ApiKey.deleted_at.is_not(None),
            ApiKey.is_taken_over.is_(False),
        )
    ).all()
    return Inheritance([key_id for key_id, _ in rows], _lowest(holds for _, holds in rows))


def take_over(session: Session, key: ApiKey, left: Inheritance) -> None:
    """Let a new key carry what deleted keys used in this month.

    What they have in flight counts as used: it is about to end, and may use as much.
    """
    if not left.key_ids:
        return
    began = month_began(database_now(session))
    used = func.coalesce(func.sum(UsageHourly.prompt_tokens + UsageHourly.completion_tokens), 0)
    own = select(used).where(UsageHourly.api_key_id.in_(left.key_ids), UsageHourly.hour >= began)
    carried = select(func.coalesce(func.sum(ApiKey.carried_tokens), 0)).where(
        ApiKey.id.in_(left.key_ids), ApiKey.carried_month == began
    )
    key.carried_month = began
    key.carried_tokens = (
        int(session.scalar(own) or 0)
        + int(session.scalar(carried) or 0)
        + reserved_tokens(session, left.key_ids)
    )
    session.execute(
        update(ApiKey)
        .where(ApiKey.id.in_(left.key_ids))
        .values(is_taken_over=True)
        .execution_options(synchronize_session=False)
    )


def _lowest(all_holds: Iterable[dict[str, Any]]) -> dict[str, Any]:
    lowest: dict[str, Any] = {}
    for holds in all_holds:
        for name in _LASTING & holds.keys():
            lowest[name] = min(holds[name], lowest.get(name, holds[name]))
    return lowest
