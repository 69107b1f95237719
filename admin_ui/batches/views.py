"""Batches: one as its owner or an admin sees it, its lines and results, and what may be done."""

from __future__ import annotations

from flask import Blueprint, abort, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ServiceRefusal
from admin_ui.batches.progress import Progress
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database, go_to
from admin_ui.web.relay import relay
from admin_ui.widgets.deliveries import deliveries_of, send_again
from admin_ui.widgets.own_keys import own_key_options, paid_by
from admin_ui.widgets.visible import visible_batch
from core.ids import Prefix, show_id
from models.accounts.api_key import find_any_key
from models.batches.batch import Batch
from models.batches.lines import count_retriable
from models.batches.reads import count_running
from models.jobs.job import JobState
from models.pages.batches import list_lines

blueprint = Blueprint("batches", __name__, url_prefix="/batches")

BATCHES = "/api/llm/batches"
LINES = 50
#: Failures that stand above the lines.
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
        deliveries=deliveries_of(batch_id=batch.id),
        **_lines(batch),
    )


@blueprint.get("/<batch_id>/live")
@signed_in
def live(batch_id: str) -> ResponseReturnValue:
    """Show how far a batch is, and let the lines below follow: both are of one moment."""
    batch = visible_batch(batch_id)
    shown = render_template(
        "batches/live.html",
        progress=_progress(batch),
        retriable=_retriable(batch),
        failures=_failures(batch),
    )
    return shown, {"HX-Trigger-After-Swap": "batch-shown"}


@blueprint.get("/<batch_id>/lines")
@signed_in
def lines(batch_id: str) -> ResponseReturnValue:
    """Show a page of the lines as they are now."""
    batch = visible_batch(batch_id)
    return render_template("batches/lines.html", batch=batch, **_lines(batch))


@blueprint.get("/<batch_id>/results")
@signed_in
def results(batch_id: str) -> ResponseReturnValue:
    """Send the results so far as a file, while they are read."""
    shown = show_id(Prefix.BATCH, visible_batch(batch_id).id)
    states = request.args.getlist("status")
    opening = api().stream(
        viewer(),
        "GET",
        f"{BATCHES}/{shown}/results",
        query={"status": ",".join(states)} if states else None,
    )
    name = "-".join([shown, *states, "results.jsonl"])
    disposition = f'attachment; filename="{name}"'
    return relay(
        opening, mimetype="application/jsonl", headers={"Content-Disposition": disposition}
    )


@blueprint.get("/<batch_id>/cancel")
@signed_in
def ask_to_cancel(batch_id: str) -> ResponseReturnValue:
    return render_template("batches/cancel.html", progress=_progress(visible_batch(batch_id)))


@blueprint.post("/<batch_id>/cancel")
@signed_in
def cancel(batch_id: str) -> ResponseReturnValue:
    shown = show_id(Prefix.BATCH, visible_batch(batch_id).id)
    batch = api().call(viewer(), "POST", f"{BATCHES}/{shown}/cancel")
    if batch["status"] in {"completed", "expired"}:
        flash("The batch had already ended. Nothing was cancelled.", "warning")
    else:
        flash("The batch is being cancelled.", "warning")
    return go_to(url_for("batches.show", batch_id=shown))


@blueprint.get("/<batch_id>/retry")
@signed_in
def ask_to_retry(batch_id: str) -> ResponseReturnValue:
    return _retry_form(visible_batch(batch_id))


@blueprint.post("/<batch_id>/retry")
@signed_in
def retry(batch_id: str) -> ResponseReturnValue:
    """Make a new batch of the lines that did not succeed."""
    batch = visible_batch(batch_id)
    body = {name: request.form.get(name, "") for name in ("name", "completionWindow")}
    key = request.form.get("key", "")
    path = f"{BATCHES}/{show_id(Prefix.BATCH, batch.id)}/retry"
    try:
        made = api().call(
            viewer(),
            "POST",
            path,
            {name: value for name, value in body.items() if value},
            headers=paid_by(key) if key else None,
        )
    except ServiceRefusal as refusal:
        return _retry_form(batch, refusal), refusal.status
    flash("This is the new batch.")
    return go_to(url_for("batches.show", batch_id=made["id"]))


@blueprint.post("/<batch_id>/resend")
@signed_in
def resend(batch_id: str) -> ResponseReturnValue:
    """Begin a new round of attempts to deliver the batch's webhook."""
    shown = show_id(Prefix.BATCH, visible_batch(batch_id).id)
    send_again(request.form.get("webhook", ""))
    return go_to(url_for("batches.show", batch_id=shown))


def _progress(batch: Batch) -> Progress:
    running = {} if batch.is_final else count_running(database(), [batch.id])
    return Progress.of(batch, running.get(batch.id, 0))


def _retriable(batch: Batch) -> int:
    """Return how many lines a retry would send again; none while the batch goes on."""
    return count_retriable(database(), batch) if batch.is_final else 0


def _failures(batch: Batch) -> list[object]:
    """Return the first lines that failed; without any, no line is looked at."""
    if not batch.failed:
        return []
    page = list_lines(database(), batch.id, states=[JobState.FAILED], limit=FIRST_FAILURES)
    return list(page.rows)


def _lines(batch: Batch) -> dict[str, object]:
    """Return the page of lines that the address asks for, and where it stands."""
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
        limit=LINES,
    )
    return {"lines": page, "state": state, "after": after, "before": before}


def _retry_form(batch: Batch, refusal: ServiceRefusal | None = None) -> str:
    key, _ = find_any_key(database(), batch.api_key_id)
    before = [("", f"{key.name}, as before")] if batch.user_id == viewer().id else []
    others = [option for option in own_key_options() if option[0] != show_id(Prefix.KEY, key.id)]
    return render_template(
        "batches/retry.html",
        batch=batch,
        retriable=_retriable(batch),
        key_options=[*before, *others],
        refusal=refusal,
        faults=refusal.fields if refusal else {},
        form=request.form,
    )
