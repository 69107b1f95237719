"""The audit trail: who changed which key or user, when, from where. Rows are only ever added."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.ids import new_id
from models.base import Base, utc_now


class AuditEntry(Base):
    """One change. `details` names fields and limits, never a secret, a hash or a password."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_actor_id_id", "actor_id", "id"),
        Index("ix_audit_log_target_id_id", "target_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    action: Mapped[str] = mapped_column(String(64))
    target_id: Mapped[UUID | None]
    address: Mapped[str] = mapped_column(String(64), default="")
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
            address=address,
            details=details or {},
        )
    )
