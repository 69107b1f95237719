"""The settings of the viewer: password, name and email."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.session.session import continue_session
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database
from core.ids import Prefix, format_id
from models.accounts.user import User

blueprint = Blueprint("account", __name__, url_prefix="/settings")


@blueprint.get("")
@signed_in
def show() -> ResponseReturnValue:
    return _page()


@blueprint.post("/password")
@signed_in
def change_password() -> ResponseReturnValue:
    new = request.form.get("newPassword", "")
    if new != request.form.get("repeated", ""):
        return _page(faults={"repeated": "Passwords don't match."}), 400
    body = {"currentPassword": request.form.get("currentPassword", ""), "newPassword": new}
    try:
        api().call(viewer(), "POST", "/api/auth/change-password", body)
    except ApiRefusal as refusal:
        if refusal.code == "invalid_credentials":
            return _page(faults={"currentPassword": _password_fault(refusal)}), 400
        return _page(refusal.fields, password_fault=_form_fault(refusal)), refusal.status
    database().expire_all()
    user = database().get_one(User, viewer().id)
    continue_session(user)
    flash("Password changed. Every other session has ended.")
    return redirect(url_for("account.show"), 303)


@blueprint.post("")
@signed_in
def update() -> ResponseReturnValue:
    body = {name: request.form.get(name, "") for name in ("name", "email")}
    if password := request.form.get("passwordOfAccount"):
        body["currentPassword"] = password
    path = f"/api/users/{format_id(Prefix.USER, viewer().id)}"
    try:
        api().call(viewer(), "PUT", path, body)
    except ApiRefusal as refusal:
        faults = dict(refusal.fields)
        if "currentPassword" in faults:  # the other form of the page has this field
            faults["passwordOfAccount"] = _password_fault(refusal)
            del faults["currentPassword"]
        return _page(faults, account_fault=_form_fault(refusal), form=body), refusal.status
    flash("Saved.")
    return redirect(url_for("account.show"), 303)


def _password_fault(refusal: ApiRefusal) -> str:
    if refusal.code == "invalid_credentials":
        return "This is not the current password."
    return "Enter your current password to change your email."


def _form_fault(refusal: ApiRefusal) -> str | None:
    """Return the message of an error that concerns no single field."""
    return None if refusal.fields else refusal.message


def _page(
    faults: Mapping[str, str] | None = None,
    *,
    password_fault: str | None = None,
    account_fault: str | None = None,
    form: Mapping[str, str] | None = None,
) -> str:
    given = form or {"name": viewer().name, "email": viewer().email}
    return render_template(
        "account/show.html",
        faults=faults or {},
        password_fault=password_fault,
        account_fault=account_fault,
        form=given,
    )
