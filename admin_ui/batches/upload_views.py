"""Sending a file of requests from the page, as a part of the batches; the API judges every line."""

from __future__ import annotations

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ServiceRefusal
from admin_ui.batches.views import BATCHES, blueprint
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api
from admin_ui.web.uploads import takes_file
from admin_ui.widgets.own_keys import own_key_options, paid_by

OPTIONS = ("name", "onError", "completionWindow", "webhookUrl")
DEFAULTS = {"onError": "reject", "completionWindow": "24h"}


@blueprint.get("/new")
@signed_in
def new() -> ResponseReturnValue:
    return _page()


@blueprint.post("/new")
@signed_in
@takes_file
def send() -> ResponseReturnValue:
    """Make a batch of the file: it is on disk, and goes on from there a piece at a time."""
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return _page(faults={"file": "Choose a file."}), 400
    size = upload.stream.seek(0, 2)
    upload.stream.seek(0)
    options = {name: value for name in OPTIONS if (value := request.form.get(name, ""))}
    try:
        made = api().send_file(
            viewer(),
            BATCHES,
            upload.stream,
            size,
            content_type="application/jsonl",
            headers=paid_by(request.form.get("key", "")),
            query=options,
            seconds=services().settings.upload_seconds,
        )
    except ServiceRefusal as refusal:
        return _page(refusal=refusal), refusal.status
    flash("The batch has begun.")
    return redirect(url_for("batches.show", batch_id=made["id"]), 303)


def _page(faults: dict[str, str] | None = None, refusal: ServiceRefusal | None = None) -> str:
    told = dict(refusal.fields) if refusal else {}
    return render_template(
        "batches/new.html",
        key_options=own_key_options(),
        form={**DEFAULTS, **request.form},
        faults=faults or {name: text for name, text in told.items() if name in OPTIONS},
        line_faults=[text for name, text in told.items() if name.startswith("line ")],
        refusal=refusal,
        most_bytes=services().settings.max_batch_bytes,
        most_lines=services().settings.max_batch_lines,
    )
