"""Adds jobs whose worker died, for tests of the reaper."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from models.database.base import SessionFactory
from tests.support.factories.rows import add_job, claim_job


def add_silent_job(database: SessionFactory, *, attempts: int = 1) -> UUID:
    """Add a running job whose lease ended five minutes ago."""
    with database.begin() as session:
        job = add_job(session)
        claim_job(session, job.id, worker_id="dead", lease=-timedelta(minutes=5))
        job.attempt = attempts
        return job.id
