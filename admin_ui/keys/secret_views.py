"""Pages that create and rotate a key. Only their response contains the secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from flask import flash, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.keys.form import body_of, entered_values, key_form, new_values, read_number
from admin_ui.keys.views import blueprint
from admin_ui.quick_start.examples import curl_with_secret
from admin_ui.services import services
from admin_ui.session.form_token import new_form_id, note_sent, was_sent
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database, redirect_to
from admin_ui.web.typed_text import typed_text
from admin_ui.web.visible_rows import visible_key
from core.ids import Prefix, format_id
from models.accounts.api_key import ApiKey
from models.accounts.user import find_user_by_email

__all__ = ["blueprint"]

#: Stands for the owner when no user has the entered email; it is no valid id.
UNKNOWN_OWNER = "user_nobody"
#: Seconds for which the previous secret works after a rotation, and their labels.
GRACE_PERIODS = (
    (0, "Ends at once"),
    (3600, "Works for another hour"),
    (24 * 3600, "Works for another day"),
    (7 * 24 * 3600, "Works for another 7 days"),
)


@blueprint.get("/new")
@signed_in
def new() -> ResponseReturnValue:
    owner = request.args.get("owner", viewer().email)
    return key_form(None, new_values(services().settings), owner)


@blueprint.post("/new")
@signed_in
def create() -> ResponseReturnValue:
    if was_sent():
        return _already_sent()
    values = entered_values(request.form, is_admin=viewer().is_admin)
    owner = typed_text(request.form, "owner") or viewer().email
    body = body_of({name: value for name, value in values.items() if name != "isActive"})
    if viewer().is_admin and owner.lower() != viewer().email:
        found = find_user_by_email(database(), owner)
        # For an unknown owner the API creates no key, but reports the faults of other fields.
        body["userId"] = format_id(Prefix.USER, found.id) if found else UNKNOWN_OWNER
    try:
        created = api().call(viewer(), "POST", "/api/keys", body)
    except ApiRefusal as refusal:
        fields = dict(refusal.fields)
        if body.get("userId") == UNKNOWN_OWNER:
            fields["userId"] = "There is no user with this email."
        return key_form(None, values, owner, replace(refusal, fields=fields)), refusal.status
    return _secret(created), 201


@blueprint.get("/<key_id>/rotate")
@signed_in
def confirm_rotate(key_id: str) -> ResponseReturnValue:
    return _rotation(visible_key(key_id)[0])


@blueprint.post("/<key_id>/rotate")
@signed_in
def rotate(key_id: str) -> ResponseReturnValue:
    key, _ = visible_key(key_id)
    if was_sent():
        return _already_sent()
    body = {"graceSeconds": read_number(request.form.get("graceSeconds", ""))}
    try:
        created = api().call(viewer(), "POST", f"/api/keys/{key_id}/rotate", body)
    except ApiRefusal as refusal:
        return _rotation(key, refusal), refusal.status
    return _secret(created)


def _rotation(key: ApiKey, refusal: ApiRefusal | None = None) -> str:
    return render_template(
        "keys/rotate.html",
        key=key,
        graces=GRACE_PERIODS,
        form_id=new_form_id(),
        fault=refusal.message if refusal else None,
    )


def _secret(created: Mapping[str, Any]) -> str:
    """Return the page of a new secret, which is stored only as a hash."""
    note_sent()
    previous = created["previousSecretExpiresAt"]
    return render_template(
        "keys/secret.html",
        key=created,
        previous_expires_at=datetime.fromisoformat(previous) if previous else None,
        call=curl_with_secret(created["secret"]),
    )


def _already_sent() -> ResponseReturnValue:
    flash("This form was sent before. A secret is shown once: rotate the key if you lost it.")
    return redirect_to(url_for("keys.index"))
