"""The audit trail: who changed what, when and from where. Rows are never updated."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import Prefix, new_id, parse_id
from models.database.base import Base

ADDRESS_LENGTH = 64
#: The kind of an action's target, by the noun of the action; all others concern a user.
_TARGETS = {
    "key": Prefix.KEY,
    "webhook": Prefix.WEBHOOK,
    "job": Prefix.JOB,
    "batch": Prefix.BATCH,
    "file": Prefix.FILE,
}


def target_kind(action: str) -> Prefix:
    """Return the kind of an action's target."""
    return _TARGETS.get(action.partition(".")[0], Prefix.USER)


def read_target(text: str) -> UUID | None:
    """Parse the public id of a target; `None` if it is not one."""
    kinds = (Prefix.USER, *_TARGETS.values())
    return next(filter(None, (parse_id(kind, text) for kind in kinds)), None)


class AuditEntry(Base):
    """One change. `details` contains fields and limits, never secrets or hashes."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_actor_id_id", "actor_id", "id"),
        Index("ix_audit_log_target_id_id", "target_id", "id"),
        Index("ix_audit_log_action_id", "action", "id"),
        Index("ix_audit_log_address_id", "address", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(default=func.now())
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    action: Mapped[str] = mapped_column(String(64))
    target_id: Mapped[UUID | None]
    address: Mapped[str] = mapped_column(String(ADDRESS_LENGTH), default="")
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)


def record_audit(
    session: Session,
    *,
    action: str,
    actor_id: UUID | None,
    target_id: UUID | None,
    address: str = "",
    details: dict[str, Any] | None = None,
) -> None:
    """Add an entry; `action` is a noun and a verb, such as `key.create`."""
    session.add(
        AuditEntry(
            action=action,
            actor_id=actor_id,
            target_id=target_id,
            address=address[:ADDRESS_LENGTH],
            details=details or {},
        )
    )
