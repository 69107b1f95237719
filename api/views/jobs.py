"""A job as its owner sees it."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.authentication import authenticate
from api.representations import show_job
from api.services import services
from core.errors import NotFound
from core.ids import Prefix, read_id
from models.job import find_job

blueprint = Blueprint("jobs", __name__, url_prefix="/api/llm/jobs")


@blueprint.get("/<job_id>")
def show(job_id: str) -> ResponseReturnValue:
    """Return a job, with its result when it is done."""
    wanted = read_id(Prefix.JOB, job_id)
    with services().sessions() as session:
        caller = authenticate(session)
        job = find_job(session, wanted) if wanted else None
        if job is None or not caller.may_see(job.user_id):
            raise NotFound("there is no such job")
        return show_job(job)
