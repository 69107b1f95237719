"""The API and the admin UI as applications in this process, without their servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import quote_from_bytes

from flask import Flask

import admin_ui.app
import admin_ui.services
import api.app
import api.services
from core.config.settings import Settings
from tests.support.small_model import small_model_dir


@cache
def settings() -> Settings:
    return Settings.from_environment(
        {
            # Code that connects gets an error: nothing listens there.
            "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "SECRET_KEY": "a secret of the fuzzing, longer than 32 characters",
            "MODEL_PATH": str(small_model_dir()),
            "TRUSTED_PROXIES": "1",
        }
    )


@cache
def api_app() -> Flask:
    return api.app.create_app(api.services.Services.from_settings(settings()))


@cache
def admin_app() -> Flask:
    return admin_ui.app.create_app(admin_ui.services.PageServices.from_settings(settings()))


@contextmanager
def requested(
    app: Flask,
    *,
    method: str = "GET",
    path: str = "/",
    query: bytes = b"",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    content_type: str = "",
    length: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Enter the context of a request with any bytes in its parts, as a web server passes it."""
    environ = environ_of(method, path, query, headers or {}, body, content_type, length)
    with app.request_context(environ):
        yield environ


def environ_of(
    method: str,
    path: str,
    query: bytes,
    headers: dict[str, str],
    body: bytes,
    content_type: str = "",
    length: str | None = None,
) -> dict[str, Any]:
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": quote_from_bytes(query, safe="&=%+;/:,?#[]@!$'()*~-._"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "203.0.113.9",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)) if length is None else length,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": BytesIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        **named,
    }
