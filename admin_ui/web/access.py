"""Who may see a page. A view that says nothing is for admins: forgetting it shows nothing.

To a customer, what is for admins does not exist.
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
from admin_ui.web.return_path import to_sign_in
from models.accounts.user import User

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])


class Access(Enum):
    ANYONE = "anyone"
    SIGNED_IN = "signed in"
    ADMIN = "admin"


_ATTRIBUTE = "bountycoder_access"


def anyone(view: View) -> View:
    """Let a view answer those who are not signed in, too."""
    setattr(view, _ATTRIBUTE, Access.ANYONE)
    return view


def signed_in(view: View) -> View:
    """Let a view answer customers too; it shows them what is theirs."""
    setattr(view, _ATTRIBUTE, Access.SIGNED_IN)
    return view


def access_of(endpoint: str) -> Access:
    """Return whom the view behind an endpoint answers."""
    if endpoint == "static":
        return Access.ANYONE
    view = current_app.view_functions[endpoint]
    return cast(Access, getattr(view, _ATTRIBUTE, Access.ADMIN))


def register_access(app: Flask) -> None:
    app.before_request(_check)


def viewer() -> User:
    """Return who is signed in; views that are for anyone do not ask."""
    return cast(User, g.viewer)


def own_rows() -> UUID | None:
    """Return the id of the user whose rows the viewer sees, `None` for everybody's."""
    return None if viewer().is_admin else viewer().id


def _check() -> ResponseReturnValue | None:
    if request.endpoint == "static":
        return None
    if request.endpoint is None:
        # An address that leads nowhere: who is signed in sees the menu above "nothing is here".
        g.viewer = signed_in_user(database())
        return None
    access = access_of(request.endpoint)
    if access is Access.ANYONE:
        return None
    user = signed_in_user(database())
    if user is None:
        return to_sign_in()
    g.viewer = user
    if access is Access.ADMIN and not user.is_admin:
        abort(404)
    return None
