"""Waits for the end of a job while its caller waits."""

from __future__ import annotations

import time

from api.services import Services
from core.events.job_events import JobWatch
from core.web.disconnect import ClientConnection
from models.database.base import DATABASE_AWAY
from models.jobs.job import Job

#: Seconds between two reads of the row: the event of an end can be lost.
RECHECK_SECONDS = 15.0
#: Seconds between two reads while the database is away.
AWAY_SECONDS = 0.5


def wait_for_end(
    services: Services, job: Job, watch: JobWatch, connection: ClientConnection, *, seconds: float
) -> Job:
    """Wait until the job has ended, the time is over or the client has disconnected.

    Returns the job's last known state. Keeps waiting while the database is away: the job runs on,
    and its caller pays for it.
    """
    deadline = time.monotonic() + seconds
    while not job.is_final:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or watch.must_end:
            break
        watch.changed.wait(min(remaining, RECHECK_SECONDS))
        watch.changed.clear()
        if connection.is_gone:
            break
        job = read_job(services, job)
    return job


def read_job(services: Services, job: Job) -> Job:
    """Return the job as its row is now; its last known state while the database is away."""
    try:
        return services.jobs.reads.reload(job)
    except DATABASE_AWAY:
        time.sleep(AWAY_SECONDS)
        return job
