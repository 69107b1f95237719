"""The playground: sends a prompt, streams the completion, and shows the same call as code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.jobs.times import JobTimes
from admin_ui.playground.form import body_of, field_faults, has_parameters, read_form
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database, present_time
from admin_ui.web.relay import relay
from admin_ui.web.uploads import accepts_prompt
from admin_ui.web.visible_rows import visible_job
from admin_ui.widgets.code_samples import SECRET_VARIABLE, code_samples
from admin_ui.widgets.own_keys import key_header, usable_key_options
from core.ids import Prefix, parse_id
from models.jobs.job import find_job

blueprint = Blueprint("playground", __name__, url_prefix="/playground")

GENERATE = "/api/llm/generate"
#: How long a page without JavaScript waits for the completion; then it links to the job.
WAIT_SECONDS = 15
#: Initial prompt.
EXAMPLE = "Write a Python function that calculates Fibonacci numbers"
#: Most polls for the end of a stopped job, which takes moments.
MAX_POLLS = 20


@blueprint.get("")
@signed_in
def show() -> ResponseReturnValue:
    return _page(read_form({"prompt": EXAMPLE, **request.args}))


@blueprint.post("")
@signed_in
@accepts_prompt
def generate() -> ResponseReturnValue:
    """Generate and return the whole page, for browsers without JavaScript."""
    form = read_form(request.form)
    headers = {**key_header(form["key"]), "Prefer": f"wait={WAIT_SECONDS}"}
    try:
        response = api().call(viewer(), "POST", GENERATE, body_of(form), headers=headers)
    except ApiRefusal as refusal:
        return _page(form, refusal=refusal), refusal.status
    return _page(form, response=response)


@blueprint.post("/stream")
@signed_in
@accepts_prompt
def stream() -> ResponseReturnValue:
    """Stream the events of the API; an error is JSON."""
    form = read_form(request.form)
    body = {**body_of(form), "stream": True}
    opening = api().stream(viewer(), "POST", GENERATE, body, headers=key_header(form["key"]))
    try:
        return relay(opening, mimetype="text/event-stream")
    except ApiRefusal as refusal:
        fault = {
            "message": refusal.message,
            "fields": field_faults(refusal.fields),
            "retryAfter": refusal.retry_after,
        }
        return fault, refusal.status


@blueprint.get("/outcome")
@signed_in
def outcome() -> ResponseReturnValue:
    """Show the state of a job of the playground, from the database."""
    job = visible_job(request.args.get("job", ""))
    polls = request.args.get("polls", 0, type=int)
    return render_template(
        "playground/outcome.html",
        job=job,
        times=JobTimes.of(job, present_time()),
        is_polling=not job.is_final and polls < MAX_POLLS,
        polls=polls + 1,
    )


@blueprint.post("/code")
@signed_in
@accepts_prompt
def code() -> ResponseReturnValue:
    """Show the programs that send the request of the form."""
    return render_template("playground/code_texts.html", samples=_samples(read_form(request.form)))


def _samples(form: Mapping[str, str]) -> Any:
    return code_samples(services().settings.customer_api_url, body_of(form))


def _page(
    form: Mapping[str, str],
    *,
    response: Mapping[str, Any] | None = None,
    refusal: ApiRefusal | None = None,
) -> str:
    job = None
    if response is not None:
        job = find_job(database(), parse_id(Prefix.JOB, response["id"]) or UUID(int=0))
    return render_template(
        "playground/show.html",
        form=form,
        key_options=usable_key_options(),
        samples=_samples(form),
        secret_variable=SECRET_VARIABLE,
        response=response,
        job=job,
        times=JobTimes.of(job, present_time()) if job else None,
        faults=field_faults(refusal.fields) if refusal else {},
        has_parameters=has_parameters(form),
        refusal=refusal,
    )
