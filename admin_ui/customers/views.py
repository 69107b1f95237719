"""Pages on which admins find, add, edit and delete customers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort, flash, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiRefusal
from admin_ui.web.access import viewer
from admin_ui.web.page import api, database, present_time, redirect_back, redirect_to
from admin_ui.web.typed_text import typed_text
from admin_ui.widgets.month_chart import month_series
from admin_ui.widgets.pager import read_choice, read_list_page, read_search
from admin_ui.widgets.related import related_links
from core.calendar import month_of
from core.ids import Prefix, parse_id
from models.accounts.api_key import count_keys
from models.accounts.user import Role, User, find_user, list_users
from models.pages.customers import CustomerSort, list_customers
from models.pages.keys import list_key_page
from models.pages.open_work import read_open_work
from models.usage.report import UsageScope, sum_usage

blueprint = Blueprint("customers", __name__, url_prefix="/customers")

#: Emails that are suggested while one is typed.
MAX_SUGGESTIONS = 10
#: Keys on the page of a customer; the list of keys has the others.
PAGE_KEYS = 10
ROLES = [(role.value, role.value.title()) for role in Role]


@blueprint.get("")
def index() -> ResponseReturnValue:
    page = read_list_page(CustomerSort.CREATED)
    search, role = read_search(), read_choice("role", Role)
    found = list_customers(
        database(),
        now=present_time(),
        search=search,
        role=role,
        sort=page.sort,
        is_descending=page.is_descending,
        offset=page.offset,
        limit=page.limit,
    )
    return render_template(
        "customers/index.html", found=found, search=search, role=role, page=page, roles=ROLES
    )


@blueprint.get("/<user_id>")
def show(user_id: str) -> ResponseReturnValue:
    user = _find_user(user_id)
    now = present_time()
    month = UsageScope(month_of(now), now, user_id=user.id)
    return render_template(
        "customers/show.html",
        user=user,
        month=sum_usage(database(), month),
        keys=list_key_page(database(), user_id=user.id, now=now, limit=PAGE_KEYS),
        related=related_links("user", user_id),
    )


@blueprint.get("/<user_id>/series")
def series(user_id: str) -> ResponseReturnValue:
    return jsonify(month_series(database(), present_time(), user_id=_find_user(user_id).id))


@blueprint.get("/suggestions")
def suggestions() -> ResponseReturnValue:
    """Return users whose email or name begins with the typed text, as options."""
    typed = typed_text(request.args, "owner")
    if not typed:
        return ""
    found = list_users(database(), search=typed, after=None, limit=MAX_SUGGESTIONS)
    return render_template("customers/suggestions.html", users=found.rows)


@blueprint.get("/new")
def new() -> ResponseReturnValue:
    return _form(None, {"role": Role.CUSTOMER})


@blueprint.post("/new")
def create() -> ResponseReturnValue:
    form = request.form.to_dict()
    body = {name: form.get(name, "") for name in ("name", "email", "password", "role")}
    try:
        created = api().call(viewer(), "POST", "/api/users", body)
    except ApiRefusal as refusal:
        return _form(None, body, refusal), refusal.status
    flash(f"{created['email']} is added.")
    return redirect_to(url_for("customers.show", user_id=created["id"]))


@blueprint.get("/<user_id>/edit")
def edit(user_id: str) -> ResponseReturnValue:
    user = _find_user(user_id)
    values = {"name": user.name, "email": user.email, "role": user.role}
    return _form(user, {**values, "isActive": user.is_active})


@blueprint.post("/<user_id>/edit")
def update(user_id: str) -> ResponseReturnValue:
    user = _find_user(user_id)
    form = request.form.to_dict()
    body: dict[str, Any] = {name: form.get(name, "") for name in ("name", "email", "role")}
    if user.id != viewer().id:
        body["isActive"] = "isActive" in form
    for name in ("password", "currentPassword"):
        if form.get(name):
            body[name] = form[name]
    try:
        api().call(viewer(), "PUT", f"/api/users/{user_id}", body)
    except ApiRefusal as refusal:
        return _form(user, body, refusal), refusal.status
    flash("Saved.")
    return redirect_back("customers.index", url_for("customers.show", user_id=user_id))


@blueprint.get("/<user_id>/delete")
def confirm_delete(user_id: str) -> ResponseReturnValue:
    return _confirmation(_find_user(user_id))


@blueprint.post("/<user_id>/delete")
def delete(user_id: str) -> ResponseReturnValue:
    user = _find_user(user_id)
    try:
        api().call(viewer(), "DELETE", f"/api/users/{user_id}")
    except ApiRefusal as refusal:
        return _confirmation(user, refusal), refusal.status
    flash(f"{user.email} is deleted, with all API keys.")
    return redirect_back("customers.index", url_for("customers.index"))


def _find_user(text: str) -> User:
    """Return the user with this id, or answer 404."""
    user_id = parse_id(Prefix.USER, text)
    user = find_user(database(), user_id) if user_id else None
    return user or abort(404)


def _form(user: User | None, values: Mapping[str, Any], refusal: ApiRefusal | None = None) -> str:
    """Return the form of a new customer, or of `user`."""
    return render_template(
        "customers/form.html",
        user=user,
        values=values,
        faults=refusal.fields if refusal else {},
        fault=refusal.message if refusal and not refusal.fields else None,
    )


def _confirmation(user: User, refusal: ApiRefusal | None = None) -> str:
    return render_template(
        "customers/delete.html",
        user=user,
        keys=count_keys(database(), [user.id]).get(user.id, 0),
        work=read_open_work(database(), user_id=user.id),
        fault=refusal.message if refusal else None,
    )
