"""The page of one job: state, text, cancel, rerun and webhook."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.jobs.details import JobDetails
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, redirect_to
from admin_ui.web.relay import relay
from admin_ui.web.visible_rows import visible_job
from admin_ui.widgets.webhooks import resend_webhook
from core.ids import Prefix, format_id

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs")

JOBS = "/api/llm/jobs"


@blueprint.get("/<job_id>")
@signed_in
def show(job_id: str) -> ResponseReturnValue:
    return render_template("jobs/show.html", details=JobDetails.of(visible_job(job_id)))


@blueprint.get("/<job_id>/live")
@signed_in
def live(job_id: str) -> ResponseReturnValue:
    """Show the part of the page that changes until the job ends."""
    return render_template("jobs/live.html", details=JobDetails.of(visible_job(job_id)))


@blueprint.get("/<job_id>/text")
@signed_in
def text(job_id: str) -> ResponseReturnValue:
    """Stream the text of a running job, as the events of the API."""
    id_text = format_id(Prefix.JOB, visible_job(job_id).id)
    opening = api().stream(viewer(), "GET", f"{JOBS}/{id_text}/stream")
    return relay(opening, mimetype="text/event-stream")


@blueprint.get("/<job_id>/cancel")
@signed_in
def confirm_cancel(job_id: str) -> ResponseReturnValue:
    return render_template("jobs/cancel.html", job=visible_job(job_id))


@blueprint.post("/<job_id>/cancel")
@signed_in
def cancel(job_id: str) -> ResponseReturnValue:
    id_text = format_id(Prefix.JOB, visible_job(job_id).id)
    job = api().call(viewer(), "DELETE", f"{JOBS}/{id_text}")
    if job["status"] in {"queued", "running", "cancelled"}:
        flash("The job is cancelled.")
    else:
        flash("The job had already ended. Nothing was cancelled.", "warning")
    return redirect_to(url_for("jobs.show", job_id=id_text))


@blueprint.get("/<job_id>/again")
@signed_in
def confirm_rerun(job_id: str) -> ResponseReturnValue:
    return render_template("jobs/rerun.html", details=JobDetails.of(visible_job(job_id)))


@blueprint.post("/<job_id>/again")
@signed_in
def rerun(job_id: str) -> ResponseReturnValue:
    """Create a job with the same request; it is charged to the same key."""
    job = visible_job(job_id)
    body = {name: value for name, value in job.request.items() if name != "stream"}
    headers = {"x-api-key-id": format_id(Prefix.KEY, job.api_key_id)}
    created = api().call(viewer(), "POST", JOBS, body, headers=headers)
    flash("This is the new job.")
    return redirect_to(url_for("jobs.show", job_id=created["id"]))


@blueprint.post("/<job_id>/resend")
@signed_in
def resend(job_id: str) -> ResponseReturnValue:
    """Start a new round of attempts for the webhook of the job."""
    id_text = format_id(Prefix.JOB, visible_job(job_id).id)
    resend_webhook(request.form.get("webhook", ""))
    return redirect_to(url_for("jobs.show", job_id=id_text))
