"""Jobs: one, as its owner or an admin sees it, and what may be done with it."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.jobs.details import JobDetails
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, go_to
from admin_ui.web.relay import relay
from admin_ui.widgets.deliveries import send_again
from admin_ui.widgets.visible import visible_job
from core.ids import Prefix, show_id

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs")

JOBS = "/api/llm/jobs"


@blueprint.get("/<job_id>")
@signed_in
def show(job_id: str) -> ResponseReturnValue:
    return render_template("jobs/show.html", details=JobDetails.of(visible_job(job_id)))


@blueprint.get("/<job_id>/live")
@signed_in
def live(job_id: str) -> ResponseReturnValue:
    """Show what changes of a job while it is not over."""
    return render_template("jobs/live.html", details=JobDetails.of(visible_job(job_id)))


@blueprint.get("/<job_id>/text")
@signed_in
def text(job_id: str) -> ResponseReturnValue:
    """Answer with the job's text while it is made, as the API's own events."""
    shown = show_id(Prefix.JOB, visible_job(job_id).id)
    opening = api().stream(viewer(), "GET", f"{JOBS}/{shown}/stream")
    return relay(opening, mimetype="text/event-stream")


@blueprint.get("/<job_id>/cancel")
@signed_in
def ask_to_cancel(job_id: str) -> ResponseReturnValue:
    return render_template("jobs/cancel.html", job=visible_job(job_id))


@blueprint.post("/<job_id>/cancel")
@signed_in
def cancel(job_id: str) -> ResponseReturnValue:
    shown = show_id(Prefix.JOB, visible_job(job_id).id)
    job = api().call(viewer(), "DELETE", f"{JOBS}/{shown}")
    if job["status"] in {"queued", "running", "cancelled"}:
        flash("The job is cancelled.")
    else:
        flash("The job had already ended. Nothing was cancelled.", "warning")
    return go_to(url_for("jobs.show", job_id=shown))


@blueprint.get("/<job_id>/again")
@signed_in
def ask_to_run_again(job_id: str) -> ResponseReturnValue:
    return render_template("jobs/again.html", details=JobDetails.of(visible_job(job_id)))


@blueprint.post("/<job_id>/again")
@signed_in
def run_again(job_id: str) -> ResponseReturnValue:
    """Make a new job of the same request, which its key pays for."""
    job = visible_job(job_id)
    body = {name: value for name, value in job.request.items() if name != "stream"}
    headers = {"x-api-key-id": show_id(Prefix.KEY, job.api_key_id)}
    made = api().call(viewer(), "POST", JOBS, body, headers=headers)
    flash("This is the new job.")
    return go_to(url_for("jobs.show", job_id=made["id"]))


@blueprint.post("/<job_id>/resend")
@signed_in
def resend(job_id: str) -> ResponseReturnValue:
    """Begin a new round of attempts to deliver the job's webhook."""
    shown = show_id(Prefix.JOB, visible_job(job_id).id)
    send_again(request.form.get("webhook", ""))
    return go_to(url_for("jobs.show", job_id=shown))
