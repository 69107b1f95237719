"""The way to the form of signing in, and back to the page that the browser shows."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import current_app, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.session.session import was_signed_in
from admin_ui.web.page import go_to, is_fragment

FIRST_PAGE = "/"


def to_sign_in() -> ResponseReturnValue:
    """Send the browser to sign in, and from there back to its page.

    A request that nobody at the page made (a live part, a chart, a sample of code) gets a 401
    instead: the page stays with what is written on it, and says that the session has ended.
    """
    if _is_background():
        return "", 401
    page = _shown_page()
    has_ended = was_signed_in() or _page_of(request.referrer) is not None or not _is_visit()
    back = page if page != FIRST_PAGE else None
    return go_to(url_for("sign_in.form", next=back, ended=1 if has_ended else None))


def _is_visit() -> bool:
    """Whether the browser opens a page: a change, or a part of a page, needs a page before it."""
    return request.method in {"GET", "HEAD"} and not is_fragment()


def _is_background() -> bool:
    wants_json = request.accept_mimetypes.best == "application/json"
    return "X-Background" in request.headers or wants_json


def _shown_page() -> str:
    """Return the address of the page that the browser shows, or opens."""
    if _is_visit():
        return request.full_path.rstrip("?")
    shown = request.headers.get("HX-Current-URL") if is_fragment() else request.referrer
    return _page_of(shown) or FIRST_PAGE


def _page_of(address: str | None) -> str | None:
    """Return the path and query of an address of ours that can be opened."""
    parts = urlsplit(address or "")
    adapter = current_app.create_url_adapter(request)
    if parts.netloc != request.host or adapter is None or not adapter.test(parts.path, "GET"):
        return None
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
