"""Signing in and out."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.security import sign_in_as, sign_out
from admin_ui.services import services
from core.blocking import run_blocking
from core.passwords import MAX_PASSWORD_LENGTH, is_password_of
from models.user import find_user_by_email

blueprint = Blueprint("sign_in", __name__)


@blueprint.get("/sign-in")
def form() -> ResponseReturnValue:
    return render_template("sign_in.html", email="", fault=None)


@blueprint.post("/sign-in")
def enter() -> ResponseReturnValue:
    email = request.form.get("email", "").replace("\x00", "")
    password = request.form.get("password", "")[:MAX_PASSWORD_LENGTH]
    with services().sessions() as database:
        user = find_user_by_email(database, email)
    is_right = run_blocking(is_password_of, user.password_hash if user else None, password)
    if user is None or not is_right:
        fault = "The email or the password is wrong."
        return render_template("sign_in.html", email=email, fault=fault), 401
    if not user.is_admin:
        fault = "These pages are for admins. Use your API key with the API."
        return render_template("sign_in.html", email=email, fault=fault), 403
    sign_in_as(user)
    return redirect(url_for("overview.show"), 303)


@blueprint.post("/sign-out")
def leave() -> ResponseReturnValue:
    sign_out()
    return redirect(url_for("sign_in.form"), 303)
