"""Finds jobs that a caller may see: their own, or all for an admin."""

from __future__ import annotations

from api.auth.authentication import Caller
from core.errors import NotFound
from core.ids import Prefix, parse_id
from models.database.base import Session
from models.jobs.job import Job, find_job


def find_visible_job(session: Session, caller: Caller, job_id: str) -> Job:
    """Return the job with this public id.

    Raises:
        NotFound: it does not exist, or another user owns it.
    """
    wanted = parse_id(Prefix.JOB, job_id)
    job = find_job(session, wanted) if wanted else None
    if job is None or not caller.may_see(job.user_id):
        raise NotFound("there is no such job")
    return job
