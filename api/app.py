"""Builds the Flask application from its services."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_jwt_extended import JWTManager
from werkzeug.middleware.proxy_fix import ProxyFix

from api.error_handlers import register_error_handlers
from api.http.request_log import register_request_log
from api.http.security_headers import register_security_headers
from api.openapi.document import build_document
from api.runtime.large_requests import register_large_requests
from api.runtime.load_shedding import LoadShedder, register_load_shedding
from api.runtime.metrics import RequestMetrics
from api.services import Services
from api.unknown_paths import PathNormalizer
from api.v1 import models as v1_models
from api.v1.batches import file_views as v1_files
from api.v1.batches import views as v1_batches
from api.v1.generation import views as v1_generate
from api.views import (
    admin,
    auth,
    batches,
    docs,
    generate,
    health,
    index,
    jobs,
    keys,
    limits,
    llm_models,
    usage,
    users,
    webhooks,
)
from core.security.jwt_rules import jwt_config


def create_app(services: Services) -> Flask:
    """Return the API over `services`; nothing connects before the first request."""
    app = Flask("bountycoder-api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    app.config.update(jwt_config(services.settings))
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.extensions["bountycoder"] = services
    JWTManager(app)
    if services.settings.api_metrics_port:
        RequestMetrics(app)
    services.traces.register(app)
    register_request_log(app)
    register_load_shedding(app, LoadShedder(max_seconds=services.settings.max_admission_seconds))
    register_large_requests(app)
    register_error_handlers(app)
    register_security_headers(
        app,
        is_production=services.settings.is_production,
        origins=services.settings.allowed_origins,
    )
    if proxies := services.settings.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies
        )
    app.wsgi_app = PathNormalizer(app.wsgi_app)  # type: ignore[assignment,method-assign]
    register_views(app)
    return app


def register_views(app: Flask) -> None:
    """Register all views; none of them needs a service before a call."""
    for view in (
        health,
        index,
        docs,
        auth,
        users,
        keys,
        generate,
        jobs,
        batches,
        limits,
        llm_models,
        webhooks,
        usage,
        admin,
        v1_generate,
        v1_models,
        v1_files,
        v1_batches,
    ):
        app.register_blueprint(view.blueprint)


def published_document() -> dict[str, Any]:
    """Return the OpenAPI document of the API, without any service."""
    app = Flask("bountycoder-api", static_folder=None)
    register_views(app)
    return build_document(app)
