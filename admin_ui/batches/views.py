"""The page of one batch: progress, lines, results, cancel, retry and webhook."""

from __future__ import annotations

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.batches.progress import BatchProgress
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database, redirect_to
from admin_ui.web.relay import relay
from admin_ui.web.visible_rows import visible_batch
from admin_ui.widgets.own_keys import key_header, usable_key_options
from admin_ui.widgets.webhooks import resend_webhook, webhooks_of
from core.ids import Prefix, format_id
from models.accounts.api_key import find_any_key
from models.batches.batch import Batch
from models.batches.lines import count_retriable
from models.batches.reads import count_running
from models.jobs.job import JobState
from models.pages.batches import list_lines

blueprint = Blueprint("batches", __name__, url_prefix="/batches")

BATCHES = "/api/llm/batches"
PAGE_LINES = 50
#: Failed lines that the page lists first.
FIRST_FAILURES = 5


@blueprint.get("/<batch_id>")
@signed_in
def show(batch_id: str) -> ResponseReturnValue:
    batch = visible_batch(batch_id)
    key, owner = find_any_key(database(), batch.api_key_id)
    return render_template(
        "batches/show.html",
        progress=_progress(batch),
        retriable=_retriable(batch),
        key=key,
        owner=owner,
        failures=_failures(batch),
        webhooks=webhooks_of(batch_id=batch.id),
        **_lines(batch),
    )


@blueprint.get("/<batch_id>/live")
@signed_in
def live(batch_id: str) -> ResponseReturnValue:
    """Show the progress of a batch, and trigger a refresh of its lines."""
    batch = visible_batch(batch_id)
    html = render_template(
        "batches/live.html",
        progress=_progress(batch),
        retriable=_retriable(batch),
        failures=_failures(batch),
    )
    return html, {"HX-Trigger-After-Swap": "batch-updated"}


@blueprint.get("/<batch_id>/lines")
@signed_in
def lines(batch_id: str) -> ResponseReturnValue:
    """Show the current state of one page of lines."""
    batch = visible_batch(batch_id)
    return render_template("batches/lines.html", batch=batch, **_lines(batch))


@blueprint.get("/<batch_id>/results")
@signed_in
def results(batch_id: str) -> ResponseReturnValue:
    """Stream the results so far as a file."""
    id_text = format_id(Prefix.BATCH, visible_batch(batch_id).id)
    states = request.args.getlist("status")
    opening = api().stream(
        viewer(),
        "GET",
        f"{BATCHES}/{id_text}/results",
        query={"status": ",".join(states)} if states else None,
    )
    name = "-".join([id_text, *states, "results.jsonl"])
    disposition = f'attachment; filename="{name}"'
    return relay(
        opening, mimetype="application/jsonl", headers={"Content-Disposition": disposition}
    )


@blueprint.get("/<batch_id>/cancel")
@signed_in
def confirm_cancel(batch_id: str) -> ResponseReturnValue:
    return render_template("batches/cancel.html", progress=_progress(visible_batch(batch_id)))


@blueprint.post("/<batch_id>/cancel")
@signed_in
def cancel(batch_id: str) -> ResponseReturnValue:
    id_text = format_id(Prefix.BATCH, visible_batch(batch_id).id)
    batch = api().call(viewer(), "POST", f"{BATCHES}/{id_text}/cancel")
    if batch["status"] in {"completed", "expired"}:
        flash("The batch had already ended. Nothing was cancelled.", "warning")
    else:
        flash("The batch is being cancelled.", "warning")
    return redirect_to(url_for("batches.show", batch_id=id_text))


@blueprint.get("/<batch_id>/retry")
@signed_in
def confirm_retry(batch_id: str) -> ResponseReturnValue:
    return _retry_form(visible_batch(batch_id))


@blueprint.post("/<batch_id>/retry")
@signed_in
def retry(batch_id: str) -> ResponseReturnValue:
    """Create a batch of the lines that did not succeed."""
    batch = visible_batch(batch_id)
    body = {name: request.form.get(name, "") for name in ("name", "completionWindow")}
    key = request.form.get("key", "")
    path = f"{BATCHES}/{format_id(Prefix.BATCH, batch.id)}/retry"
    try:
        created = api().call(
            viewer(),
            "POST",
            path,
            {name: value for name, value in body.items() if value},
            headers=key_header(key) if key else None,
        )
    except ApiRefusal as refusal:
        return _retry_form(batch, refusal), refusal.status
    flash("This is the new batch.")
    return redirect_to(url_for("batches.show", batch_id=created["id"]))


@blueprint.post("/<batch_id>/resend")
@signed_in
def resend(batch_id: str) -> ResponseReturnValue:
    """Start a new round of attempts for the webhook of the batch."""
    id_text = format_id(Prefix.BATCH, visible_batch(batch_id).id)
    resend_webhook(request.form.get("webhook", ""))
    return redirect_to(url_for("batches.show", batch_id=id_text))


def _progress(batch: Batch) -> BatchProgress:
    running = {} if batch.is_final else count_running(database(), [batch.id])
    return BatchProgress.of(batch, running.get(batch.id, 0))


def _retriable(batch: Batch) -> int:
    """Return how many lines a retry would contain: none before the batch has ended."""
    return count_retriable(database(), batch) if batch.is_final else 0


def _failures(batch: Batch) -> list[object]:
    """Return the first failed lines; reads no line if the batch counts no failure."""
    if not batch.failed:
        return []
    page = list_lines(database(), batch.id, states=[JobState.FAILED], limit=FIRST_FAILURES)
    return list(page.rows)


def _lines(batch: Batch) -> dict[str, object]:
    """Return the page of lines that the query asks for, and its filter and marks."""
    state = request.args.get("state", "")
    if state and state not in set(JobState):
        abort(404)
    after, before = (request.args.get(name, type=int) for name in ("after", "before"))
    page = list_lines(
        database(),
        batch.id,
        states=[JobState(state)] if state else None,
        after=after,
        before=before,
        limit=PAGE_LINES,
    )
    return {"lines": page, "state": state, "after": after, "before": before}


def _retry_form(batch: Batch, refusal: ApiRefusal | None = None) -> str:
    key, _ = find_any_key(database(), batch.api_key_id)
    before = [("", f"{key.name}, as before")] if batch.user_id == viewer().id else []
    others = [
        option for option in usable_key_options() if option[0] != format_id(Prefix.KEY, key.id)
    ]
    return render_template(
        "batches/retry.html",
        batch=batch,
        retriable=_retriable(batch),
        key_options=[*before, *others],
        refusal=refusal,
        faults=refusal.fields if refusal else {},
        form=request.form,
    )
