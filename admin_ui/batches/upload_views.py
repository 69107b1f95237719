"""The form that uploads a file as a batch; the API validates every line."""

from __future__ import annotations

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.batches.views import BATCHES, blueprint
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api
from admin_ui.web.uploads import accepts_file
from admin_ui.widgets.own_keys import key_header, usable_key_options

OPTIONS = ("name", "onError", "completionWindow", "webhookUrl")
DEFAULTS = {"onError": "reject", "completionWindow": "24h"}


@blueprint.get("/new")
@signed_in
def new() -> ResponseReturnValue:
    return _page()


@blueprint.post("/new")
@signed_in
@accepts_file
def send() -> ResponseReturnValue:
    """Create a batch; the file is streamed from the disk to the API."""
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return _page(faults={"file": "Choose a file."}), 400
    size = upload.stream.seek(0, 2)
    upload.stream.seek(0)
    options = {name: value for name in OPTIONS if (value := request.form.get(name, ""))}
    try:
        created = api().send_file(
            viewer(),
            BATCHES,
            upload.stream,
            size,
            content_type="application/jsonl",
            headers=key_header(request.form.get("key", "")),
            query=options,
            seconds=services().settings.upload_seconds,
        )
    except ApiRefusal as refusal:
        return _page(refusal=refusal), refusal.status
    flash("The batch has started.")
    return redirect(url_for("batches.show", batch_id=created["id"]), 303)


def _page(faults: dict[str, str] | None = None, refusal: ApiRefusal | None = None) -> str:
    fields = dict(refusal.fields) if refusal else {}
    return render_template(
        "batches/new.html",
        key_options=usable_key_options(),
        form={**DEFAULTS, **request.form},
        faults=faults or {name: text for name, text in fields.items() if name in OPTIONS},
        line_faults=[text for name, text in fields.items() if name.startswith("line ")],
        refusal=refusal,
        max_bytes=services().settings.max_batch_bytes,
        max_lines=services().settings.max_batch_lines,
    )
