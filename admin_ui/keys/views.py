"""Pages of API keys: list, details, edit and revoke. Customers see only their own keys."""

from __future__ import annotations

import redis
from flask import Blueprint, abort, flash, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.keys.form import body_of, entered_values, key_form, values_of
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import api, database, present_time, redirect_back
from admin_ui.web.visible_rows import visible_key
from admin_ui.widgets.month_chart import month_series
from admin_ui.widgets.pager import read_choice, read_list_page, read_search
from admin_ui.widgets.related import related_links
from core.calendar import month_of
from core.errors import Unavailable
from core.ids import Prefix, parse_id
from core.limits.state import LimitState
from models.accounts.api_key import ApiKey
from models.accounts.user import User, find_user
from models.pages.keys import KeySort, KeyStatus, list_key_page, status_of
from models.pages.open_work import read_open_work
from models.usage.report import UsageScope, sum_usage

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

STATUSES = [(status.value, status.value.title()) for status in KeyStatus]


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    page = read_list_page(KeySort.CREATED)
    search, status = read_search(), read_choice("status", KeyStatus)
    owner = _listed_owner()
    found = list_key_page(
        database(),
        user_id=owner.id if owner else None,
        now=present_time(),
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


@blueprint.get("/<key_id>")
@signed_in
def show(key_id: str) -> ResponseReturnValue:
    key, owner = visible_key(key_id)
    now = present_time()
    month = UsageScope(month_of(now), now, key_id=key.id)
    return render_template(
        "keys/show.html",
        key=key,
        owner=owner,
        now=now,
        status=status_of(key, now, has_active_owner=owner.is_active),
        month=sum_usage(database(), month),
        limits=_limits(key),
        related=related_links("key", key_id),
    )


@blueprint.get("/<key_id>/limits")
@signed_in
def limits(key_id: str) -> ResponseReturnValue:
    """Show the current use of the limits of a key."""
    key, _ = visible_key(key_id)
    return render_template("keys/limits.html", key=key, limits=_limits(key))


@blueprint.get("/<key_id>/series")
@signed_in
def series(key_id: str) -> ResponseReturnValue:
    key, _ = visible_key(key_id)
    return jsonify(month_series(database(), present_time(), key_id=key.id))


@blueprint.get("/<key_id>/edit")
@signed_in
def edit(key_id: str) -> ResponseReturnValue:
    key, owner = visible_key(key_id)
    return key_form(key, values_of(key), owner.email)


@blueprint.post("/<key_id>/edit")
@signed_in
def update(key_id: str) -> ResponseReturnValue:
    key, owner = visible_key(key_id)
    values = entered_values(request.form, is_admin=viewer().is_admin)
    body = body_of(values, values_of(key))
    try:
        if body:
            api().call(viewer(), "PUT", f"/api/keys/{key_id}", body)
    except ApiRefusal as refusal:
        return key_form(key, values, owner.email, refusal), refusal.status
    flash("Saved.")
    return redirect_back("keys.index", url_for("keys.show", key_id=key_id))


@blueprint.get("/<key_id>/delete")
@signed_in
def confirm_delete(key_id: str) -> ResponseReturnValue:
    return _confirmation(*visible_key(key_id))


@blueprint.post("/<key_id>/delete")
@signed_in
def delete(key_id: str) -> ResponseReturnValue:
    key, owner = visible_key(key_id)
    try:
        api().call(viewer(), "DELETE", f"/api/keys/{key_id}")
    except ApiRefusal as refusal:
        return _confirmation(key, owner, refusal), refusal.status
    flash(f"The key “{key.name}” is revoked.")
    return redirect_back("keys.index", url_for("keys.index"))


def _listed_owner() -> User | None:
    """Return the owner of the listed keys; `None` lists the keys of all users.

    An admin may name an owner in the query; an unknown id ends in 404.
    """
    if not viewer().is_admin:
        return viewer()
    if not (text := request.args.get("owner", "")):
        return None
    user_id = parse_id(Prefix.USER, text)
    return (find_user(database(), user_id) if user_id else None) or abort(404)


def _limits(key: ApiKey) -> LimitState | None:
    """Return the use of the limits of a key, or `None` while Redis is away."""
    try:
        return services().limiter.read(key, recall=services().recall(key.id))
    except (redis.RedisError, Unavailable):
        return None


def _confirmation(key: ApiKey, owner: User, refusal: ApiRefusal | None = None) -> str:
    return render_template(
        "keys/delete.html",
        key=key,
        owner=owner,
        work=read_open_work(database(), key_id=key.id),
        fault=refusal.message if refusal else None,
    )
