"""Filtered lists of the audit trail for the API and its page, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Select, String, cast, func, lateral, select, text
from sqlalchemy.orm import Session, aliased

from core.ids import earliest_id
from models.accounts.audit import AuditEntry
from models.accounts.names import user_emails
from models.database.pagination import Keyset, read_entities

#: `list_actions` returns at most this many actions.
MOST_ACTIONS = 200


@dataclass(frozen=True, slots=True)
class ActivityFilter:
    """Which entries to list; a field that is `None` filters nothing.

    Attributes:
        action: one action such as `key.create`.
        action_group: the beginning that several actions share, such as `key.`.
        address: the whole address.
        until: exclusive.
    """

    actor_id: UUID | None = None
    target_id: UUID | None = None
    action: str | None = None
    action_group: str | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """An entry and the present email of its actor."""

    entry: AuditEntry
    actor_email: str | None

    @property
    def id(self) -> UUID:
        return self.entry.id


def list_activity(
    session: Session,
    wanted: ActivityFilter,
    *,
    after: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> Keyset[Activity]:
    """Return entries, newest first: those older than `after` or newer than `before`.

    `after` and `before` are ids.
    """
    entry: Any = AuditEntry
    query = _where(select(entry), entry, wanted)
    if wanted.action_group is not None:
        actions = [name for name in list_actions(session) if name.startswith(wanted.action_group)]
        entry, query = _of_each(actions, wanted, after, before, limit)
    page = read_entities(session, query, entry.id, after=after, before=before, limit=limit)
    return page.of(lambda entries: _with_emails(session, entries))


def list_actions(session: Session) -> list[str]:
    """Return all actions of the audit trail, sorted.

    One read of the index finds each action.
    """
    return list(session.scalars(_ACTIONS))


#: A `distinct` would make PostgreSQL read the whole index.
_ACTIONS = text(
    f"""
    with recursive found as (
        (select action::varchar from audit_log order by action limit 1)
        union all
        select (select min(a.action) from audit_log a where a.action > found.action)
        from found where found.action is not null
    )
    select action from found where action is not null limit {MOST_ACTIONS}
    """
)


def _where(query: Select[Any], entry: Any, wanted: ActivityFilter) -> Select[Any]:
    for column, value in (
        (entry.actor_id, wanted.actor_id),
        (entry.target_id, wanted.target_id),
        (entry.action, wanted.action),
        (entry.address, wanted.address),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(entry.id >= earliest_id(wanted.since))
    if wanted.until is not None:
        query = query.where(entry.id < earliest_id(wanted.until))
    return query


def _of_each(
    actions: list[str],
    wanted: ActivityFilter,
    after: UUID | None,
    before: UUID | None,
    limit: int,
) -> tuple[Any, Select[Any]]:
    """Return the query for the entries of several actions, one page of each.

    The index by action holds the entries of one action together. The index by time would also
    read the entries of all other actions.
    """
    names = select(func.unnest(cast(actions, ARRAY(String))).label("action")).subquery()
    inner = _where(select(AuditEntry), AuditEntry, wanted)
    inner = inner.where(AuditEntry.action == names.c.action)
    if before is not None:
        inner = inner.where(AuditEntry.id > before).order_by(AuditEntry.id.asc())
    else:
        inner = inner.order_by(AuditEntry.id.desc())
        if after is not None:
            inner = inner.where(AuditEntry.id < after)
    page = lateral(inner.limit(limit + 1))
    entry = aliased(AuditEntry, page)
    return entry, select(entry).select_from(names).join(page, text("true"))


def _with_emails(session: Session, entries: list[AuditEntry]) -> list[Activity]:
    emails = user_emails(session, {entry.actor_id for entry in entries if entry.actor_id})
    return [Activity(e, emails.get(e.actor_id) if e.actor_id else None) for e in entries]
