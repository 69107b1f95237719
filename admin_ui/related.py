"""Links from a customer or a key to the other pages about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import current_app, url_for

from admin_ui.access import Access, access_of, viewer


class Related(NamedTuple):
    """A link."""

    text: str
    address: str


#: Page, its title, and the name by which it takes a user or a key.
_PAGES = (
    ("jobs.index", "Jobs", None),
    ("batches.index", "Batches", None),
    ("usage.show", "Usage", None),
    ("activity.index", "Activity", "target"),
)


def related(kind: str, shown_id: str) -> list[Related]:
    """Return the pages that the viewer may see about a `user` or a `key`."""
    return [
        Related(title, _address(endpoint, {argument or kind: shown_id}))
        for endpoint, title, argument in _PAGES
        if endpoint in current_app.view_functions
        and (viewer().is_admin or access_of(endpoint) is not Access.ADMIN)
    ]


def _address(endpoint: str, arguments: dict[str, Any]) -> str:
    return url_for(endpoint, **arguments)
