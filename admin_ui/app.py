"""Builds the Flask application of the admin pages."""

from __future__ import annotations

from flask import Flask
from flask_jwt_extended import JWTManager
from werkzeug.middleware.proxy_fix import ProxyFix

from admin_ui.account import sign_in
from admin_ui.account import views as account
from admin_ui.activity import views as activity
from admin_ui.batches import list_views as batch_list
from admin_ui.batches import upload_views as batch_upload
from admin_ui.batches import views as batches
from admin_ui.customers import views as customers
from admin_ui.dashboard import views as dashboard
from admin_ui.jobs import list_views as job_list
from admin_ui.jobs import views as jobs
from admin_ui.keys import secret_views as key_secrets
from admin_ui.keys import views as keys
from admin_ui.playground import views as playground
from admin_ui.quick_start import views as quick_start
from admin_ui.services import PageServices
from admin_ui.session.session import SESSION_LIFE
from admin_ui.usage import views as usage
from admin_ui.web.access import register_access
from admin_ui.web.csrf import register_csrf
from admin_ui.web.errors import register_error_handlers
from admin_ui.web.host import HostCheck
from admin_ui.web.metrics import measure_requests
from admin_ui.web.navigation import register_navigation
from admin_ui.web.page import register_pages
from admin_ui.web.security_headers import register_security_headers
from admin_ui.web.server_timing import register_server_timing
from admin_ui.web.uploads import register_uploads
from admin_ui.widgets.formats import register_formats
from admin_ui.wording import register_wording
from core.security.jwt_rules import jwt_config

#: URLs of static files contain a hash of the content, so browsers may cache them for long.
STATIC_SECONDS = 365 * 24 * 3600
_VIEWS = (
    sign_in,
    dashboard,
    customers,
    keys,
    key_secrets,
    usage,
    job_list,
    jobs,
    batch_list,
    batch_upload,
    batches,
    activity,
    playground,
    quick_start,
    account,
)


def create_app(services: PageServices) -> Flask:
    """Return the application; it opens no connection before the first request."""
    settings = services.settings
    app = Flask("admin_ui")
    app.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value(),
        SESSION_COOKIE_NAME="bountycoder_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.is_production,
        PERMANENT_SESSION_LIFETIME=SESSION_LIFE,
        # With a refresh, a response in flight during a sign-out would sign the user in again, and
        # a page that polls would keep its session alive for ever.
        SESSION_REFRESH_EACH_REQUEST=False,
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=settings.max_body_bytes,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_SECONDS,
        **jwt_config(settings),
    )
    app.url_map.strict_slashes = False
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.extensions["bountycoder"] = services
    JWTManager(app)
    if settings.admin_metrics_port:
        measure_requests(app)
    register_server_timing(app)
    register_security_headers(app)
    register_error_handlers(app)
    register_pages(app)
    register_access(app)
    register_uploads(app)
    register_csrf(app)
    register_formats(app)
    register_navigation(app)
    register_wording(app)
    if proxies := settings.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies
        )
    app.wsgi_app = HostCheck(app.wsgi_app)  # type: ignore[method-assign]
    # Some modules of views share a blueprint.
    for blueprint in dict.fromkeys(view.blueprint for view in _VIEWS):
        app.register_blueprint(blueprint)
    return app
