"""The menu: the pages that there are for the person who looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask, g, request

from admin_ui.session.session import has_default_password
from admin_ui.web.access import Access, access_of
from models.accounts.user import User


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the menu, and whether it is the one that is shown."""

    endpoint: str
    title: str
    icon: str
    is_here: bool


#: Endpoint, title and icon (an id in `templates/icons.html`) of each page, in their order.
_PAGES = (
    ("overview.show", "Dashboard", "gauge"),
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
    app.context_processor(_context)


def pages_for(user: User) -> list[tuple[str, str, str]]:
    """Return the endpoint, title and icon of each page that this user may see."""
    return [page for page in _PAGES if user.is_admin or access_of(page[0]) is not Access.ADMIN]


def _context() -> dict[str, Any]:
    user: User | None = g.get("viewer")
    if user is None:
        return {"viewer": None, "menu": ()}
    return {
        "viewer": user,
        "menu": [_entry(*page) for page in pages_for(user)],
        "asks_for_password": has_default_password(),
    }


def _entry(endpoint: str, title: str, icon: str) -> Entry:
    here = request.blueprint == endpoint.partition(".")[0]
    return Entry(endpoint, title, icon, here)
