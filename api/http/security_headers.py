"""Headers that every answer has, and which pages may call from a browser.

No cookie is ever taken, so a page of another origin can do nothing in a visitor's name; the list
of origins only says whose scripts may read answers.
"""

from __future__ import annotations

import re

from flask import Flask, Response, make_response, request

#: Nothing of an answer is a page, except where a view says otherwise.
CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
HSTS = "max-age=31536000; includeSubDomains"
METHODS = "GET, POST, PUT, DELETE"
#: What a script may read beside the body.
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
    """Add the headers to every answer of `app`, and let pages of `origins` call it."""

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

    def answer_preflight() -> Response | None:
        asked_for = request.headers.get("access-control-request-method")
        if request.method != "OPTIONS" or asked_for is None or not _is_allowed():
            return None
        response = make_response("", 204)
        response.headers["access-control-allow-methods"] = METHODS
        names = request.headers.get("access-control-request-headers", "")
        if _HEADER_NAMES.fullmatch(names):
            response.headers["access-control-allow-headers"] = names
        response.headers["access-control-max-age"] = PREFLIGHT_SECONDS
        return response

    def admit_origin(response: Response) -> Response:
        response.vary.add("origin")
        if _is_allowed():
            response.headers["access-control-allow-origin"] = request.headers["origin"]
            response.headers["access-control-expose-headers"] = EXPOSED
        return response

    def _is_allowed() -> bool:
        return request.headers.get("origin") in origins

    app.after_request(protect)
    if origins:
        app.before_request(answer_preflight)
        app.after_request(admit_origin)
