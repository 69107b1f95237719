"""What the views share of a request: its database session, whether only a part of the page is
wanted, and where the browser goes next.

A page is shown whole, or as a fragment when htmx asks for it: in a dialog, or in place of a part.
Without JavaScript the same addresses give whole pages.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, Response, g, redirect, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ServiceApi
from admin_ui.services import services
from models.database.base import Session, database_now


def register_pages(app: Flask) -> None:
    app.teardown_request(_close)
    app.jinja_env.globals["is_fragment"] = is_fragment


def database() -> Session:
    """Return the request's session: for reading, changes go through the API."""
    if "database" not in g:
        g.database = services().sessions()
    return cast(Session, g.database)


def present_time() -> datetime:
    """Return the time that this page is of, by the clock of the database: it dates the rows."""
    if "present_time" not in g:
        g.present_time = database_now(database())
    return cast(datetime, g.present_time)


def api() -> ServiceApi:
    """Return the API, to ask it something now.

    What the page has read is let go before: an answer may take long, and whoever waits for one
    keeps no connection to the database from the pages that only read. Rows that were read stay.
    """
    database().close()
    return services().api


def is_fragment() -> bool:
    """Say whether htmx asked, which puts the answer into the page that is there."""
    return "HX-Request" in request.headers and "HX-Boosted" not in request.headers


def go_to(address: str) -> ResponseReturnValue:
    """Send the browser to another of our pages, also out of a dialog."""
    if is_fragment():
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)


def back_to(list_endpoint: str, otherwise: str) -> ResponseReturnValue:
    """Send the browser back to the list whose dialog it was, with its page and filters.

    Args:
        otherwise: where to go from any other page, and without JavaScript.
    """
    here = urlsplit(request.headers.get("HX-Current-URL", ""))
    if here.netloc == request.host and here.path == url_for(list_endpoint):
        return go_to(f"{here.path}?{here.query}" if here.query else here.path)
    return go_to(otherwise)


def local_address(wanted: str | None, otherwise: str) -> str:
    """Return `wanted` if it is an address of ours, else `otherwise`."""
    if not wanted or not wanted.startswith("/") or wanted.startswith("//"):
        return otherwise
    # Browsers read a backslash as a slash, and leave control characters out.
    is_plain = all(letter >= " " and letter != "\\" for letter in wanted)
    return wanted if is_plain else otherwise


def _close(error: BaseException | None) -> None:
    session = g.pop("database", None)
    if session is not None:
        session.close()
