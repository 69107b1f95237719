"""What is written in the transaction of a job's end, whoever ended it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from models.job import Job
from models.usage import record_usage
from models.webhook import add_delivery


def record_end(session: Session, job: Job) -> None:
    """Write what follows from the end of `job`: its webhook, and its usage if it ever began.

    Make it the transaction's last statement: see `record_usage`.
    """
    add_delivery(session, job)
    if job.started_at is not None:
        record_usage(session, job)
