"""Looks up the rows that the viewer may see; customers see only their own.

Each function answers 404 for an unknown id and for a row of another user.
"""

from __future__ import annotations

from flask import abort

from admin_ui.web.access import owner_filter
from admin_ui.web.page import database
from core.ids import Prefix, parse_id
from models.accounts.api_key import ApiKey, find_key
from models.accounts.user import User
from models.batches.batch import Batch
from models.batches.reads import find_batch
from models.jobs.job import Job, find_job


def visible_job(text: str) -> Job:
    """Return the job with this id."""
    job_id = parse_id(Prefix.JOB, text)
    job = find_job(database(), job_id) if job_id else None
    if job is None or owner_filter() not in {None, job.user_id}:
        abort(404)
    return job


def visible_batch(text: str) -> Batch:
    """Return the batch with this id."""
    batch_id = parse_id(Prefix.BATCH, text)
    batch = find_batch(database(), batch_id) if batch_id else None
    if batch is None or owner_filter() not in {None, batch.user_id}:
        abort(404)
    return batch


def visible_key(text: str) -> tuple[ApiKey, User]:
    """Return the key with this id, unless it is deleted, and its owner."""
    key_id = parse_id(Prefix.KEY, text)
    found = find_key(database(), key_id) if key_id else None
    if found is None or owner_filter() not in {None, found[1].id}:
        abort(404)
    return found
