"""Entries of the audit trail."""

from __future__ import annotations

from sqlalchemy.orm import Session

from models.accounts.audit import AuditEntry, record_audit


def test_an_address_that_is_too_long_is_cut(session: Session) -> None:
    record_audit(session, action="a.b", actor_id=None, target_id=None, address="x" * 500)
    session.flush()

    assert len(session.query(AuditEntry).one().address) == 64
