"""Adds entries to the audit trail, with the address of the caller."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic.alias_generators import to_camel

from api.auth.authentication import Caller
from api.http.caller_address import caller_address
from core.ids import Prefix, format_id
from models.accounts.audit import record_audit
from models.accounts.user import User
from models.database.base import Session

#: A value before and after a change.
Change = dict[str, Any]


def audit(
    session: Session,
    action: str,
    *,
    actor: User | None,
    target_id: UUID | None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add an entry to the transaction of the change, so that both are committed or neither.

    Args:
        details: values by snake_case names; the entry stores camelCase names.
    """
    record_audit(
        session,
        action=action,
        actor_id=actor.id if actor else None,
        target_id=target_id,
        address=caller_address(),
        details={to_camel(name): value for name, value in (details or {}).items()},
    )


def audit_admin_act(
    session: Session, action: str, caller: Caller, *, owner_id: UUID, target_id: UUID
) -> None:
    """Add an entry if an admin acts on a resource of another user."""
    if caller.user.id != owner_id:
        details = {"owner": format_id(Prefix.USER, owner_id)}
        audit(session, action, actor=caller.user, target_id=target_id, details=details)


def change(before: Any, after: Any) -> Change:
    return {"from": before, "to": after}
