"""Security headers: only own content, no framing, no caching."""

from __future__ import annotations

from flask import Flask, Response, current_app, request

from admin_ui.services import PageServices
from core.errors import CHALLENGE

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'"
)
TRANSPORT_SECURITY = "max-age=31536000"


def register_security_headers(app: Flask) -> None:
    """Add the headers to every response."""
    app.after_request(_secure)


def _secure(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    services: PageServices = current_app.extensions["bountycoder"]
    if services.settings.is_production:
        response.headers["Strict-Transport-Security"] = TRANSPORT_SECURITY
    if response.status_code == 401:
        response.headers.setdefault("WWW-Authenticate", CHALLENGE)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
