"""Decides who may see a page.

A view without a decorator is for admins, so that a forgotten decorator reveals nothing. Customers
get 404 for the pages of admins.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar, cast
from uuid import UUID

from flask import Flask, abort, current_app, g, request
from flask.typing import ResponseReturnValue

from admin_ui.session.session import signed_in_user
from admin_ui.web.page import database
from admin_ui.web.return_path import redirect_to_sign_in
from models.accounts.user import User

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])


class Audience(Enum):
    """The group of people who may see a view."""

    ANYONE = "anyone"
    SIGNED_IN = "signed in"
    ADMIN = "admin"


_ATTRIBUTE = "bountycoder_access"


def anyone(view: View) -> View:
    """Open a view to people who are not signed in."""
    setattr(view, _ATTRIBUTE, Audience.ANYONE)
    return view


def signed_in(view: View) -> View:
    """Open a view to customers; the view limits them to their own rows."""
    setattr(view, _ATTRIBUTE, Audience.SIGNED_IN)
    return view


def audience_of(endpoint: str) -> Audience:
    """Return the audience of the view of an endpoint."""
    if endpoint == "static":
        return Audience.ANYONE
    view = current_app.view_functions[endpoint]
    return cast(Audience, getattr(view, _ATTRIBUTE, Audience.ADMIN))


def register_access(app: Flask) -> None:
    """Check the audience of the view before each request."""
    app.before_request(_check)


def viewer() -> User:
    """Return the signed-in user; not available in views for anyone."""
    return cast(User, g.viewer)


def owner_filter() -> UUID | None:
    """Return the id of the viewer, or `None` for an admin, who sees the rows of all users."""
    return None if viewer().is_admin else viewer().id


def _check() -> ResponseReturnValue | None:
    if request.endpoint == "static":
        return None
    if request.endpoint is None:
        # An unknown path: signed-in users see the menu above the error.
        g.viewer = signed_in_user(database())
        return None
    access = audience_of(request.endpoint)
    if access is Audience.ANYONE:
        return None
    user = signed_in_user(database())
    if user is None:
        return redirect_to_sign_in()
    g.viewer = user
    if access is Audience.ADMIN and not user.is_admin:
        abort(404)
    return None
