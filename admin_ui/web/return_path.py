"""Redirects to the sign-in form, with the page to return to."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import current_app, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.session.session import was_signed_in
from admin_ui.web.page import is_fragment, redirect_to

FIRST_PAGE = "/"


def redirect_to_sign_in() -> ResponseReturnValue:
    """Redirect the browser to sign in, and from there back to its page.

    Requests that scripts of the page make (live parts, charts, code samples) get 401 instead. The
    page then stays, with everything that was entered, and says that the session has ended.
    """
    if _is_background():
        return "", 401
    page = _current_page()
    has_ended = was_signed_in() or _local_page(request.referrer) is not None or not _is_visit()
    back = page if page != FIRST_PAGE else None
    return redirect_to(url_for("sign_in.form", next=back, ended=1 if has_ended else None))


def _is_visit() -> bool:
    """Return whether the browser opens a page: not a change and not a fragment."""
    return request.method in {"GET", "HEAD"} and not is_fragment()


def _is_background() -> bool:
    wants_json = request.accept_mimetypes.best == "application/json"
    return "X-Background" in request.headers or wants_json


def _current_page() -> str:
    """Return path and query of the page that the browser shows, or is about to open."""
    if _is_visit():
        return request.full_path.rstrip("?")
    current = request.headers.get("HX-Current-URL") if is_fragment() else request.referrer
    return _local_page(current) or FIRST_PAGE


def _local_page(url: str | None) -> str | None:
    """Return path and query of a URL, or `None` if it is no page of ours."""
    parts = urlsplit(url or "")
    adapter = current_app.create_url_adapter(request)
    if parts.netloc != request.host or adapter is None or not adapter.test(parts.path, "GET"):
        return None
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
