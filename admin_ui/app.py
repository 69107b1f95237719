"""Builds the Flask application of the admin pages."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask, Response, render_template
from flask.typing import ResponseReturnValue

from admin_ui.security import csrf_token, register_csrf
from admin_ui.services import Services
from admin_ui.views import overview, sign_in
from models.base import DATABASE_AWAY

SESSION_HOURS = 12
#: Everything a page shows comes from us; nothing of ours is shown in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)


def create_app(services: Services) -> Flask:
    """Return the admin UI over `services`; nothing connects before the first request."""
    app = Flask("admin_ui")
    app.config.update(
        SECRET_KEY=services.settings.secret_key.get_secret_value(),
        SESSION_COOKIE_NAME="bountycoder_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=services.settings.is_production,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=SESSION_HOURS),
        MAX_CONTENT_LENGTH=services.settings.max_body_bytes,
    )
    app.extensions["bountycoder"] = services
    app.jinja_env.globals["csrf_token"] = csrf_token
    register_csrf(app)
    app.after_request(_secure)
    for error in DATABASE_AWAY:
        app.register_error_handler(error, _database_away)
    app.register_blueprint(sign_in.blueprint)
    app.register_blueprint(overview.blueprint)
    return app


def _secure(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    if response.mimetype == "text/html":
        response.headers["Cache-Control"] = "no-store"
    return response


def _database_away(error: Exception) -> ResponseReturnValue:
    return render_template("away.html"), 503, {"Retry-After": "2"}
