"""The jobs and batches that exist for the person at the page: to customers, only their own."""

from __future__ import annotations

from flask import abort

from admin_ui.web.access import own_rows
from admin_ui.web.page import database
from core.ids import Prefix, read_id
from models.batches.batch import Batch
from models.batches.reads import find_batch
from models.jobs.job import Job, find_job


def visible_job(text: str) -> Job:
    """Return the job with this id, as people see it; anything else ends in 404."""
    job_id = read_id(Prefix.JOB, text)
    job = find_job(database(), job_id) if job_id else None
    if job is None or own_rows() not in {None, job.user_id}:
        abort(404)
    return job


def visible_batch(text: str) -> Batch:
    """Return the batch with this id, as people see it; anything else ends in 404."""
    batch_id = read_id(Prefix.BATCH, text)
    batch = find_batch(database(), batch_id) if batch_id else None
    if batch is None or own_rows() not in {None, batch.user_id}:
        abort(404)
    return batch
