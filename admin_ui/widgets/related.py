"""Links from a customer or a key to the other pages about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import url_for

from admin_ui.web.access import viewer
from admin_ui.web.navigation import pages_for

#: The pages that show what is of one user or key, and the names by which they take it.
_TAKES = {
    "jobs": {"user": "user", "key": "key"},
    "batches": {"user": "user", "key": "key"},
    "usage": {"user": "user", "key": "key"},
    "activity": {"user": "actor", "key": "target"},
}


class Related(NamedTuple):
    """A link."""

    text: str
    address: str


def related(kind: str, shown_id: str) -> list[Related]:
    """Return the pages that the viewer may see about a `user` or a `key`."""
    links = []
    for endpoint, title, _ in pages_for(viewer()):
        takes = _TAKES.get(endpoint.partition(".")[0], {})
        if kind in takes:
            arguments: dict[str, Any] = {takes[kind]: shown_id}
            links.append(Related(title, url_for(endpoint, **arguments)))
    return links
