"""Links from the page of a customer or a key to the other pages about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import url_for

from admin_ui.web.access import viewer
from admin_ui.web.navigation import pages_for

#: For each page, the query parameter that filters it by user or by key.
_FILTERS = {
    "jobs": {"user": "user", "key": "key"},
    "batches": {"user": "user", "key": "key"},
    "usage": {"user": "user", "key": "key"},
    "activity": {"user": "actor", "key": "target"},
}


class RelatedLink(NamedTuple):
    """A link to a filtered page."""

    text: str
    url: str


def related_links(kind: str, value: str) -> list[RelatedLink]:
    """Return links to the pages that the viewer may see, filtered by one user or key.

    Args:
        kind: `user` or `key`.
        value: the id, as the API writes it.
    """
    links = []
    for endpoint, title, _ in pages_for(viewer()):
        filters = _FILTERS.get(endpoint.partition(".")[0], {})
        if kind in filters:
            arguments: dict[str, Any] = {filters[kind]: value}
            links.append(RelatedLink(title, url_for(endpoint, **arguments)))
    return links
