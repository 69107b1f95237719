"""Waits for the end of a job, as long as its caller does."""

from __future__ import annotations

import time

from api.services import Services
from core.events.job_events import Watch
from core.web.disconnect import HangUp
from models.database.base import DATABASE_AWAY
from models.jobs.job import Job

#: News of an end can be lost: a waiter looks at the row itself this often.
RECHECK_SECONDS = 15.0
#: Between two looks at a database that is away.
AWAY_SECONDS = 0.5


def wait_for_end(
    services: Services, job: Job, watch: Watch, hang_up: HangUp, *, seconds: float
) -> Job:
    """Return the job when it has ended, or as it is when the time is over or the client is gone.

    A database that is away for a moment is waited for: the job goes on, and is paid for.
    """
    deadline = time.monotonic() + seconds
    while not job.is_final:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or watch.must_leave:
            break
        watch.changed.wait(min(remaining, RECHECK_SECONDS))
        watch.changed.clear()
        if hang_up.is_gone:
            break
        job = read_job(services, job)
    return job


def read_job(services: Services, job: Job) -> Job:
    """Return the job as its row is now, or as it was known while the database is away."""
    try:
        return services.jobs.reads.read_again(job)
    except DATABASE_AWAY:
        time.sleep(AWAY_SECONDS)
        return job
