"""Helpers of views: database session, time, API, fragments and redirects.

htmx asks for fragments, and puts them into the dialog or in place of a part of the page. Without
JavaScript the same URLs return whole pages.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, Response, g, redirect, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.api_client import ApiClient
from admin_ui.services import services
from models.database.base import Session, database_now


def register_pages(app: Flask) -> None:
    """Close the session after each request; add `is_fragment` to the templates."""
    app.teardown_request(_close)
    app.jinja_env.globals["is_fragment"] = is_fragment


def database() -> Session:
    """Return the database session of the request, for reads; changes go through the API."""
    if "database" not in g:
        g.database = services().sessions()
    return cast(Session, g.database)


def present_time() -> datetime:
    """Return the time of this page, by the clock of the database, which dates the rows."""
    if "present_time" not in g:
        g.present_time = database_now(database())
    return cast(datetime, g.present_time)


def api() -> ApiClient:
    """Release the database connection and return the client of the API.

    A response may take long; a waiting request must hold no connection that other pages need. Rows
    that were read before stay usable.
    """
    database().close()
    return services().api


def is_fragment() -> bool:
    """Return whether htmx sent the request and puts the response into the current page."""
    return "HX-Request" in request.headers and "HX-Boosted" not in request.headers


def redirect_to(url: str) -> ResponseReturnValue:
    """Redirect the browser to another of our pages, also from a dialog."""
    if is_fragment():
        return Response(status=204, headers={"HX-Redirect": url})
    return redirect(url, 303)


def redirect_back(list_endpoint: str, otherwise: str) -> ResponseReturnValue:
    """Redirect the browser back to the list that opened the dialog, keeping its query.

    Args:
        otherwise: the URL for a form on another page, and without JavaScript.
    """
    here = urlsplit(request.headers.get("HX-Current-URL", ""))
    if here.netloc == request.host and here.path == url_for(list_endpoint):
        return redirect_to(f"{here.path}?{here.query}" if here.query else here.path)
    return redirect_to(otherwise)


def local_url(wanted: str | None, otherwise: str) -> str:
    """Return `wanted` if it is a path on this site, or else `otherwise`."""
    if not wanted or not wanted.startswith("/") or wanted.startswith("//"):
        return otherwise
    # Browsers treat a backslash as a slash, and ignore control characters.
    is_plain = all(char >= " " and char != "\\" for char in wanted)
    return wanted if is_plain else otherwise


def _close(error: BaseException | None) -> None:
    session = g.pop("database", None)
    if session is not None:
        session.close()
