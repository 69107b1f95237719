"""Ends jobs that their callers want no more."""

from __future__ import annotations

import logging
from uuid import UUID

import redis

from api.services import Services
from core.job_requests import JobRequest, ask_worker
from models.base import DATABASE_AWAY
from models.flight import ended_job
from models.job import Job
from models.job_end import cancel_job

_log = logging.getLogger(__name__)


def cancel(services: Services, job_id: UUID) -> Job | None:
    """Cancel a job; returns it as it is then, or `None` if it had ended before.

    One that runs ends within moments, when its worker has heard of it.
    """
    with services.sessions.begin() as session:
        job = cancel_job(session, job_id)
    if job is None:
        return None
    if job.is_final:
        services.ends.announce([ended_job(job)])
        return job
    try:
        ask_worker(services.redis_client, JobRequest.CANCEL, job.id)
    except redis.RedisError:
        _log.warning("a cancel could not be told: the worker will see it in the row")
    return job


def cancel_abandoned(services: Services, job: Job) -> None:
    """Cancel the job of a client that went away, if that can be done now."""
    try:
        cancel(services, job.id)
    except DATABASE_AWAY:
        _log.warning("an abandoned job goes on: the database is away", extra={"job": job.id.hex})
