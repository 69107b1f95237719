"""Pages to sign in and out."""

from __future__ import annotations

import logging

import redis
from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.services import services
from admin_ui.session.session import sign_in_as, sign_out, signed_in_user
from admin_ui.web.access import anyone
from admin_ui.web.page import database, local_url
from admin_ui.web.typed_text import typed_text
from core.config.settings import DEFAULT_ADMIN_PASSWORD
from core.errors import RateLimited, Unavailable
from core.limits.throttle import login_rule
from core.passwords.hashing import MAX_PASSWORD_LENGTH
from core.passwords.pool import PasswordUser, check_password
from core.text.durations import duration_text
from models.accounts.audit import record_audit
from models.accounts.user import User, find_user_by_email

_log = logging.getLogger(__name__)

blueprint = Blueprint("sign_in", __name__)


@blueprint.get("/sign-in")
@anyone
def form() -> ResponseReturnValue:
    wanted = local_url(request.args.get("next"), "/")
    if signed_in_user(database()) is not None:
        return redirect(wanted, 303)
    return _form(wanted=wanted, has_ended="ended" in request.args)


@blueprint.post("/sign-in")
@anyone
def enter() -> ResponseReturnValue:
    email = typed_text(request.form, "email")
    password = request.form.get("password", "")[:MAX_PASSWORD_LENGTH]
    wanted = local_url(request.form.get("next"), "/")
    try:
        user = _authenticate(email, password)
    except RateLimited as error:
        seconds = error.headers["Retry-After"]
        fault = f"Too many attempts. Try again in {duration_text(int(seconds))}."
        return _form(email, fault, wanted), 429, {"Retry-After": seconds}
    except (Unavailable, redis.RedisError) as error:
        _log.error("sign-in is unavailable: %s", type(error).__name__)
        fault = "Redis is away, or too many users sign in at once. Try again in a few seconds."
        return _form(email, fault, wanted), 503, {"Retry-After": "2"}
    if user is None:
        return _form(email, "Incorrect email or password.", wanted), 401
    if not user.is_active:
        return _form(email, "An admin has suspended this account.", wanted), 403
    sign_in_as(user, has_default_password=password == DEFAULT_ADMIN_PASSWORD)
    return redirect(wanted, 303)


@blueprint.post("/sign-out")
@anyone
def leave() -> ResponseReturnValue:
    sign_out()
    return redirect(url_for("sign_in.form"), 303)


def _authenticate(email: str, password: str) -> User | None:
    """Return the user with this email and password, or `None`.

    Shares the throttle and its counters with the API. Records a failed attempt in the audit trail.

    Raises:
        RateLimited: too many attempts with this email, or from this client address.
        Unavailable: too many passwords are checked at once.
        redis.RedisError: attempts cannot be counted, so none is allowed.
    """
    address = request.remote_addr or ""
    rule = login_rule(services().settings)
    with services().throttle.attempt(rule, address=address, email=email) as attempt:
        with services().sessions() as session:
            user = find_user_by_email(session, email)
        password_hash = user.password_hash if user else None
        who = PasswordUser(account=email, address=address)
        if check_password(password_hash, password, user=who) and user is not None:
            attempt.succeed()
            return user
    with services().sessions.begin() as session:
        target = user.id if user else None
        record_audit(
            session, action="auth.login_failed", actor_id=None, target_id=target, address=address
        )
    return None


def _form(
    email: str = "", fault: str | None = None, wanted: str = "/", *, has_ended: bool = False
) -> str:
    return render_template(
        "sign_in.html", email=email, fault=fault, wanted=wanted, has_ended=has_ended
    )
