"""API keys: everyone makes, changes, rotates and ends the own ones, an admin all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import redis
from flask import Blueprint, abort, flash, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.access import signed_in, viewer
from admin_ui.examples import curl_with
from admin_ui.form_id import new_form_id, note_sent, was_sent
from admin_ui.key_form import body_of, entered_values, new_values, values_of
from admin_ui.list_page import read_choice, read_list_page, read_search
from admin_ui.month_chart import month_series
from admin_ui.page import database, go_to
from admin_ui.related import related
from admin_ui.service_api import ServiceRefusal
from admin_ui.services import services
from core.errors import Unavailable
from core.ids import Prefix, read_id, show_id
from core.limit_state import LimitState, month_began
from models.api_key import ApiKey, find_key
from models.base import utc_now
from models.key_lists import KeySort, KeyStatus, list_key_page, status_of
from models.open_work import read_open_work
from models.usage_report import WantedUsage, sum_usage
from models.user import User, find_user, find_user_by_email

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

#: How long a secret works on after a rotation: seconds, and what that is called.
GRACES = (
    (0, "Ends at once"),
    (3600, "Works for another hour"),
    (24 * 3600, "Works for another day"),
    (7 * 24 * 3600, "Works for another 7 days"),
)


STATUSES = [(status.value, status.value.title()) for status in KeyStatus]


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    page = read_list_page(KeySort.CREATED)
    search, status = read_search(), read_choice("status", KeyStatus)
    owner = _shown_owner()
    found = list_key_page(
        database(),
        user_id=owner.id if owner else None,
        now=utc_now(),
        search=search,
        status=status,
        sort=page.sort,
        is_descending=page.is_descending,
        offset=page.offset,
        limit=page.limit,
    )
    return render_template(
        "keys/index.html",
        found=found,
        search=search,
        status=status,
        owner=owner,
        page=page,
        statuses=STATUSES,
    )


@blueprint.get("/new")
@signed_in
def new() -> ResponseReturnValue:
    owner = request.args.get("owner", viewer().email)
    return _form(None, new_values(services().settings), owner)


@blueprint.post("/new")
@signed_in
def create() -> ResponseReturnValue:
    if was_sent():
        return _already_sent()
    values = entered_values(request.form, is_admin=viewer().is_admin)
    owner = request.form.get("owner", "").replace("\x00", "").strip() or viewer().email
    body = body_of({name: value for name, value in values.items() if name != "isActive"})
    if viewer().is_admin and owner.lower() != viewer().email:
        found = find_user_by_email(database(), owner)
        if found is None:
            fault = ServiceRefusal(400, "", "", {"owner": "There is no user with this email."})
            return _form(None, values, owner, fault), 400
        body["userId"] = show_id(Prefix.USER, found.id)
    try:
        made = services().api.call(viewer(), "POST", "/api/keys", body)
    except ServiceRefusal as refusal:
        return _form(None, values, owner, refusal), refusal.status
    return _secret(made), 201


@blueprint.get("/<key_id>")
@signed_in
def show(key_id: str) -> ResponseReturnValue:
    key, owner = _wanted(key_id)
    now = utc_now()
    month = WantedUsage(month_began(now), now, key_id=key.id)
    return render_template(
        "keys/show.html",
        key=key,
        owner=owner,
        now=now,
        status=status_of(key, now),
        month=sum_usage(database(), month),
        limits=_limits(key),
        related=related("key", key_id),
    )


@blueprint.get("/<key_id>/limits")
@signed_in
def limits(key_id: str) -> ResponseReturnValue:
    """Return the part of a key's page that shows what is left of its limits."""
    key, _ = _wanted(key_id)
    return render_template("keys/limits.html", key=key, limits=_limits(key))


@blueprint.get("/<key_id>/series")
@signed_in
def series(key_id: str) -> ResponseReturnValue:
    key, _ = _wanted(key_id)
    return jsonify(month_series(database(), utc_now(), key_id=key.id))


@blueprint.get("/<key_id>/edit")
@signed_in
def edit(key_id: str) -> ResponseReturnValue:
    key, owner = _wanted(key_id)
    return _form(key, values_of(key), owner.email)


@blueprint.post("/<key_id>/edit")
@signed_in
def update(key_id: str) -> ResponseReturnValue:
    key, owner = _wanted(key_id)
    values = entered_values(request.form, is_admin=viewer().is_admin)
    body = body_of(values, values_of(key))
    try:
        if body:
            services().api.call(viewer(), "PUT", f"/api/keys/{key_id}", body)
    except ServiceRefusal as refusal:
        return _form(key, values, owner.email, refusal), refusal.status
    flash("Saved.")
    return go_to(url_for("keys.show", key_id=key_id))


@blueprint.get("/<key_id>/rotate")
@signed_in
def ask_rotate(key_id: str) -> ResponseReturnValue:
    return _rotation(_wanted(key_id)[0])


@blueprint.post("/<key_id>/rotate")
@signed_in
def rotate(key_id: str) -> ResponseReturnValue:
    key, _ = _wanted(key_id)
    if was_sent():
        return _already_sent()
    grace = request.form.get("graceSeconds", "")
    body = {"graceSeconds": int(grace) if grace.isascii() and grace.isdigit() else grace}
    try:
        made = services().api.call(viewer(), "POST", f"/api/keys/{key_id}/rotate", body)
    except ServiceRefusal as refusal:
        return _rotation(key, refusal), refusal.status
    return _secret(made)


@blueprint.get("/<key_id>/delete")
@signed_in
def ask_delete(key_id: str) -> ResponseReturnValue:
    return _confirmation(*_wanted(key_id))


@blueprint.post("/<key_id>/delete")
@signed_in
def delete(key_id: str) -> ResponseReturnValue:
    key, owner = _wanted(key_id)
    try:
        services().api.call(viewer(), "DELETE", f"/api/keys/{key_id}")
    except ServiceRefusal as refusal:
        return _confirmation(key, owner, refusal), refusal.status
    flash(f"The key “{key.name}” is revoked.")
    return go_to(url_for("keys.index"))


def _shown_owner() -> User | None:
    """Return whose keys are listed, `None` for everybody's; an admin may name one."""
    if not viewer().is_admin:
        return viewer()
    if not (named := request.args.get("owner", "")):
        return None
    wanted = read_id(Prefix.USER, named)
    return (find_user(database(), wanted) if wanted else None) or abort(404)


def _wanted(key_id: str) -> tuple[ApiKey, User]:
    """Return the living key of an address and its owner; what is not the viewer's is not there."""
    wanted = read_id(Prefix.KEY, key_id)
    found = find_key(database(), wanted) if wanted else None
    if found is None or not (viewer().is_admin or found[1].id == viewer().id):
        abort(404)
    return found


def _limits(key: ApiKey) -> LimitState | None:
    """Return what is left of a key's limits, or `None` while Redis is away."""
    try:
        return services().limiter.read(key, recall=services().recall(key.id))
    except (redis.RedisError, Unavailable):
        return None


def _form(
    key: ApiKey | None,
    values: Mapping[str, Any],
    owner: str,
    refusal: ServiceRefusal | None = None,
) -> str:
    """Show the form of a new key, or of this one."""
    return render_template(
        "keys/form.html",
        key=key,
        values=values,
        owner=owner,
        form_id=new_form_id(),
        settings=services().settings,
        faults=_faults(refusal),
        fault=refusal.message if refusal and not refusal.fields else None,
    )


def _faults(refusal: ServiceRefusal | None) -> dict[str, str]:
    """Return what is wrong by the form's own names, in which an owner is an email."""
    faults = refusal.fields if refusal else {}
    return {("owner" if name == "userId" else name): text for name, text in faults.items()}


def _rotation(key: ApiKey, refusal: ServiceRefusal | None = None) -> str:
    return render_template(
        "keys/rotate.html",
        key=key,
        graces=GRACES,
        form_id=new_form_id(),
        fault=refusal.message if refusal else None,
    )


def _confirmation(key: ApiKey, owner: User, refusal: ServiceRefusal | None = None) -> str:
    return render_template(
        "keys/delete.html",
        key=key,
        owner=owner,
        work=read_open_work(database(), key_id=key.id),
        fault=refusal.message if refusal else None,
    )


def _secret(made: Mapping[str, Any]) -> str:
    """Show a secret: in this answer and never again, for it is kept nowhere."""
    note_sent()
    previous = made["previousSecretExpiresAt"]
    return render_template(
        "keys/secret.html",
        made=made,
        previous_ends=datetime.fromisoformat(previous) if previous else None,
        call=curl_with(made["secret"]),
    )


def _already_sent() -> ResponseReturnValue:
    flash("This form was sent before. A secret is shown once: rotate the key if you have lost it.")
    return go_to(url_for("keys.index"))
