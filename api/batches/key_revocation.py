"""Cancels the open work of keys that may no longer be used.

Such a key is deleted or switched off, or its user is deleted or suspended.
"""

from __future__ import annotations

from uuid import UUID

from api.batches.notify import notify_dispatchers
from api.services import Services
from models.database.base import Session
from models.pages.open_work import read_open_work


def count_open_work(
    session: Session, *, key_id: UUID | None = None, user_id: UUID | None = None
) -> dict[str, int]:
    """Return the number of open jobs and batches of a key or user, for the audit trail."""
    work = read_open_work(session, key_id=key_id, user_id=user_id)
    return {"jobs": work.waiting + work.running, "batches": work.batches}


def cancel_open_work(services: Services) -> None:
    """Cancel the open jobs of keys that may no longer be used, in the background.

    Call it after the commit that revoked the keys. The dispatchers handle batches: they cancel
    those of deleted keys, and hold the lines of the others.
    """
    services.jobs.cancellation.cancel_unusable()
    notify_dispatchers(services)
