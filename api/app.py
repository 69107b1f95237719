"""Builds the Flask application out of its services."""

from __future__ import annotations

from flask import Flask
from flask_jwt_extended import JWTManager

from api.errors import register_error_handlers
from api.request_log import register_request_log
from api.services import Services
from api.tokens import jwt_config
from api.views import auth, generate, health, jobs, keys, llm_models


def create_app(services: Services) -> Flask:
    """Return the API over `services`; nothing connects before the first request."""
    app = Flask("bountycoder-api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    app.config.update(jwt_config(services.settings))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.extensions["bountycoder"] = services
    JWTManager(app)
    register_request_log(app)
    register_error_handlers(app)
    for view in (health, auth, keys, generate, jobs, llm_models):
        app.register_blueprint(view.blueprint)
    return app
