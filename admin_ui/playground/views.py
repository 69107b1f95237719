"""Trying the model: a prompt, the answer as it comes, and the same call as a program makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ServiceRefusal
from admin_ui.jobs.times import JobTimes
from admin_ui.playground.form import body_of, field_faults, has_parameters, read_form
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database, present_time
from admin_ui.web.relay import relay
from admin_ui.web.uploads import takes_prompt
from admin_ui.widgets.code_samples import SECRET_VARIABLE, code_samples
from admin_ui.widgets.own_keys import own_key_options, paid_by
from admin_ui.widgets.visible import visible_job
from core.ids import Prefix, read_id
from models.jobs.job import find_job

blueprint = Blueprint("playground", __name__, url_prefix="/playground")

GENERATE = "/api/llm/generate"
#: How long a page without JavaScript waits for its answer; after that it links to the job.
WAIT_SECONDS = 15
#: Where one begins; it is there to be written over.
EXAMPLE = "Write a Python function that calculates Fibonacci numbers"
#: A stopped job has ended within moments: its end is asked for so often.
MOST_LOOKS = 20


@blueprint.get("")
@signed_in
def show() -> ResponseReturnValue:
    return _page(read_form({"prompt": EXAMPLE, **request.args}))


@blueprint.post("")
@signed_in
@takes_prompt
def generate() -> ResponseReturnValue:
    """Answer with the whole page: for browsers without JavaScript."""
    form = read_form(request.form)
    headers = {**paid_by(form["key"]), "Prefer": f"wait={WAIT_SECONDS}"}
    try:
        answer = api().call(viewer(), "POST", GENERATE, body_of(form), headers=headers)
    except ServiceRefusal as refusal:
        return _page(form, refusal=refusal), refusal.status
    return _page(form, answer=answer)


@blueprint.post("/stream")
@signed_in
@takes_prompt
def stream() -> ResponseReturnValue:
    """Answer with the API's own events while they come; a refusal is JSON."""
    form = read_form(request.form)
    body = {**body_of(form), "stream": True}
    opening = api().stream(viewer(), "POST", GENERATE, body, headers=paid_by(form["key"]))
    try:
        return relay(opening, mimetype="text/event-stream")
    except ServiceRefusal as refusal:
        told = {
            "message": refusal.message,
            "fields": field_faults(refusal.fields),
            "retryAfter": refusal.retry_after,
        }
        return told, refusal.status


@blueprint.get("/outcome")
@signed_in
def outcome() -> ResponseReturnValue:
    """Show what became of a job that was tried here, as the service has recorded it."""
    job = visible_job(request.args.get("job", ""))
    looks = request.args.get("looks", 0, type=int)
    return render_template(
        "playground/outcome.html",
        job=job,
        times=JobTimes.of(job, present_time()),
        looks_again=not job.is_final and looks < MOST_LOOKS,
        looks=looks + 1,
    )


@blueprint.post("/code")
@signed_in
@takes_prompt
def code() -> ResponseReturnValue:
    """Show the call that the form describes."""
    return render_template("playground/code_texts.html", samples=_samples(read_form(request.form)))


def _samples(form: Mapping[str, str]) -> Any:
    return code_samples(services().settings.shown_api_url, body_of(form))


def _page(
    form: Mapping[str, str],
    *,
    answer: Mapping[str, Any] | None = None,
    refusal: ServiceRefusal | None = None,
) -> str:
    job = None
    if answer is not None:
        job = find_job(database(), read_id(Prefix.JOB, answer["id"]) or UUID(int=0))
    return render_template(
        "playground/show.html",
        form=form,
        key_options=own_key_options(),
        samples=_samples(form),
        secret_variable=SECRET_VARIABLE,
        answer=answer,
        job=job,
        times=JobTimes.of(job, present_time()) if job else None,
        faults=field_faults(refusal.fields) if refusal else {},
        has_parameters=has_parameters(form),
        refusal=refusal,
    )
