"""The menu of the pages that the viewer may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask, g, request

from admin_ui.session.session import has_default_password
from admin_ui.web.access import Audience, audience_of
from models.accounts.user import User


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """An entry of the menu.

    Attributes:
        is_current: whether the viewer is on this page.
    """

    endpoint: str
    title: str
    icon: str
    is_current: bool


#: Endpoint, title and icon (a name in `templates/icons.html`) of each page.
_PAGES = (
    ("dashboard.show", "Dashboard", "gauge"),
    ("customers.index", "Customers", "people"),
    ("keys.index", "API keys", "key"),
    ("usage.index", "Usage", "chart"),
    ("jobs.index", "Jobs", "jobs"),
    ("batches.index", "Batches", "batches"),
    ("activity.index", "Activity", "activity"),
    ("playground.show", "Playground", "play"),
    ("quick_start.show", "Quick start", "start"),
)


def register_navigation(app: Flask) -> None:
    """Add the viewer and the menu to the templates."""
    app.context_processor(_context)


def pages_for(user: User) -> list[tuple[str, str, str]]:
    """Return the endpoint, title and icon of each page that this user may see."""
    return [page for page in _PAGES if user.is_admin or audience_of(page[0]) is not Audience.ADMIN]


def _context() -> dict[str, Any]:
    user: User | None = g.get("viewer")
    if user is None:
        return {"viewer": None, "menu": ()}
    return {
        "viewer": user,
        "menu": [_entry(*page) for page in pages_for(user)],
        "has_default_password": has_default_password(),
    }


def _entry(endpoint: str, title: str, icon: str) -> MenuEntry:
    is_current = request.blueprint == endpoint.partition(".")[0]
    return MenuEntry(endpoint, title, icon, is_current)
