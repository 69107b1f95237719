"""Lets a new key inherit usage and lowered limits from its owner's deleted keys.

A user must not regain a month's quota, or a limit that an admin lowered, by replacing a key. So the
usage of a deleted key is carried by one existing key: the owner's next key whose month has room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from core.calendar import month_of
from models.accounts.api_key import ApiKey
from models.database.base import database_now
from models.usage.limits import reserved_tokens
from models.usage.usage import UsageHourly

#: Limits that stay lowered. A new key is active, even if an admin had switched off the old one.
_LASTING = frozenset({"rate_limit", "token_limit", "monthly_token_limit", "max_in_flight"})


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The usage and limits that deleted keys pass to the next one.

    Attributes:
        key_ids: the deleted keys, whose usage is read when a key takes it over.
        holds: limits that an admin has lowered, the lowest of each.
    """

    key_ids: Sequence[UUID]
    holds: dict[str, Any]


def find_inheritance(session: Session, user_id: UUID) -> Inheritance:
    """Return the inheritance from those deleted keys of a user that no key took over.

    Lock the user first: two keys must not take over the same usage.
    """
    rows = session.execute(
        select(ApiKey.id, ApiKey.holds).where(
            ApiKey.user_id == user_id,
            ApiKey.deleted_at.is_not(None),
            ApiKey.is_taken_over.is_(False),
        )
    ).all()
    return Inheritance([key_id for key_id, _ in rows], _lowest(holds for _, holds in rows))


def take_over(session: Session, key: ApiKey, left: Inheritance, *, room: int | None) -> None:
    """Let a new key carry the tokens that deleted keys used in this month.

    Their tokens in flight count as used: these jobs are about to end, and may use all of them.

    Args:
        room: the maximum of tokens to carry, `None` for no maximum. The next key carries the rest:
            otherwise one full key would free all later ones.
    """
    if not left.key_ids:
        return
    began = month_of(database_now(session))
    debts = _debts(session, left.key_ids, began)
    key.carried_month, key.carried_tokens = began, 0
    taken: list[UUID] = []
    for key_id in left.key_ids:
        debt = max(0, debts[key_id])
        part = debt if room is None else min(debt, room - key.carried_tokens)
        key.carried_tokens += part
        if part == debt:
            taken.append(key_id)
        elif part:
            _lessen(session, key_id, part, began)
    # The new key has the lowered limits now. Later keys must not inherit them from the old ones.
    session.execute(
        update(ApiKey)
        .where(ApiKey.id.in_(left.key_ids))
        .values(is_taken_over=ApiKey.id.in_(taken), holds={})
        .execution_options(synchronize_session=False)
    )


def _lessen(session: Session, key_id: UUID, tokens: int, began: datetime) -> None:
    """Subtract tokens that a later key carries from those of a deleted key."""
    carried = case((ApiKey.carried_month == began, ApiKey.carried_tokens), else_=0)
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(carried_tokens=carried - tokens, carried_month=began)
        .execution_options(synchronize_session=False)
    )


def _debts(session: Session, key_ids: Sequence[UUID], began: datetime) -> Counter[UUID]:
    """Return the tokens that each key used or carried since the month began."""
    used = func.sum(UsageHourly.prompt_tokens + UsageHourly.completion_tokens)
    own = (
        select(UsageHourly.api_key_id, used)
        .where(UsageHourly.api_key_id.in_(key_ids), UsageHourly.hour >= began)
        .group_by(UsageHourly.api_key_id)
    )
    carried = select(ApiKey.id, ApiKey.carried_tokens).where(
        ApiKey.id.in_(key_ids), ApiKey.carried_month == began
    )
    debts = Counter(reserved_tokens(session, key_ids))
    for query in (own, carried):
        debts.update({key_id: int(tokens) for key_id, tokens in session.execute(query)})
    return debts


def _lowest(all_holds: Iterable[dict[str, Any]]) -> dict[str, Any]:
    lowest: dict[str, Any] = {}
    for holds in all_holds:
        for name in _LASTING & holds.keys():
            lowest[name] = min(holds[name], lowest.get(name, holds[name]))
    return lowest
