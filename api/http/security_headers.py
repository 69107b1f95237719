"""Adds security headers to every response, and CORS headers for allowed origins.

The API accepts no cookies, so a page of another origin cannot act in a visitor's name. The list of
origins only decides whose scripts may read responses.
"""

from __future__ import annotations

import re

from flask import Flask, Response, make_response, request

#: A response is not a page, unless a view sets another policy.
CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
HSTS = "max-age=31536000; includeSubDomains"
METHODS = "GET, POST, PUT, DELETE"
#: Headers that a script may read.
EXPOSED = ", ".join(
    (
        "x-request-id",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "location",
        "idempotency-replayed",
        "preference-applied",
        "x-cache",
        "x-next-cursor",
    )
)
PREFLIGHT_SECONDS = "3600"

_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(, ?[A-Za-z0-9-]{1,64}){0,49}")


def register_security_headers(app: Flask, *, is_production: bool, origins: frozenset[str]) -> None:
    """Add the headers to every response of `app`, and allow calls of pages of `origins`."""

    def protect(response: Response) -> Response:
        headers = response.headers
        headers["x-content-type-options"] = "nosniff"
        headers["x-frame-options"] = "DENY"
        headers["referrer-policy"] = "no-referrer"
        headers.setdefault("cache-control", "no-store")
        headers.setdefault("content-security-policy", CONTENT_SECURITY_POLICY)
        if is_production:
            headers["strict-transport-security"] = HSTS
        return response

    def preflight_response() -> Response | None:
        requested_method = request.headers.get("access-control-request-method")
        if request.method != "OPTIONS" or requested_method is None or not _is_allowed():
            return None
        response = make_response("", 204)
        response.headers["access-control-allow-methods"] = METHODS
        names = request.headers.get("access-control-request-headers", "")
        if _HEADER_NAMES.fullmatch(names):
            response.headers["access-control-allow-headers"] = names
        response.headers["access-control-max-age"] = PREFLIGHT_SECONDS
        return response

    def allow_origin(response: Response) -> Response:
        response.vary.add("origin")
        if _is_allowed():
            response.headers["access-control-allow-origin"] = request.headers["origin"]
            response.headers["access-control-expose-headers"] = EXPOSED
        return response

    def _is_allowed() -> bool:
        return request.headers.get("origin") in origins

    app.after_request(protect)
    if origins:
        app.before_request(preflight_response)
        app.after_request(allow_origin)
