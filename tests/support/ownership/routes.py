"""Every route of the API, and what another customer may do there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PASSWORD = "a password of the tests"


@dataclass(frozen=True)
class Open:
    """A route that needs no credentials."""


@dataclass(frozen=True)
class Own:
    """A route that needs credentials, and reads and changes only what the caller owns.

    Attributes:
        body: the body of the request.
        reaching: queries and bodies with another customer's ids (`{user_id}`, …): each is refused.
    """

    body: dict[str, Any] | None = None
    reaching: tuple[str | dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Foreign:
    """A route with an id in its path: for another customer the resource does not exist."""

    body: dict[str, Any] | None = None


@dataclass(frozen=True)
class AdminOnly:
    """A route that is refused to every customer."""

    body: dict[str, Any] | None = None


Rule = Open | Own | Foreign | AdminOnly

GENERATION = {"prompt": "hello", "maxTokens": 1}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
BATCH = {"endpoint": "/v1/completions", "completion_window": "24h"}
NEW_USER = {"email": "new@example.com", "password": PASSWORD}
WHOSE = ("?userId={user_id}", "?keyId={key_id}", "?groupBy=key&userId={user_id}&keyId={key_id}")

ROUTES: dict[tuple[str, str], Rule] = {
    ("GET", "/"): Open(),
    ("GET", "/v1"): Open(),
    ("GET", "/version"): Open(),
    ("GET", "/health"): Open(),
    ("GET", "/healthz"): Open(),
    ("GET", "/readyz"): Open(),
    ("GET", "/api/openapi.json"): Open(),
    ("GET", "/api/docs"): Open(),
    ("GET", "/api/docs/<name>"): Open(),
    ("POST", "/api/auth/register"): Open(),
    ("POST", "/api/auth/login"): Open(),
    ("POST", "/api/auth/refresh"): Open(),
    # It ends the session of its token, which the tests need.
    ("POST", "/api/auth/logout"): Open(),
    ("POST", "/api/auth/change-password"): Own(
        {"currentPassword": "not this one", "newPassword": PASSWORD}
    ),
    ("GET", "/api/auth/me"): Own(),
    ("GET", "/api/users"): AdminOnly(),
    ("POST", "/api/users"): AdminOnly(NEW_USER),
    ("GET", "/api/users/<user_id>"): Foreign(),
    ("PUT", "/api/users/<user_id>"): Foreign({"name": "taken over"}),
    ("DELETE", "/api/users/<user_id>"): Foreign(),
    ("GET", "/api/keys"): Own(reaching=("?userId={user_id}",)),
    ("POST", "/api/keys"): Own({"name": "k"}, reaching=({"name": "k", "userId": "{user_id}"},)),
    ("GET", "/api/keys/<key_id>"): Foreign(),
    ("PUT", "/api/keys/<key_id>"): Foreign({"isActive": False}),
    ("DELETE", "/api/keys/<key_id>"): Foreign(),
    ("POST", "/api/keys/<key_id>/rotate"): Foreign({"graceSeconds": 0}),
    ("GET", "/api/keys/<key_id>/webhook-secret"): Foreign(),
    ("POST", "/api/llm/generate"): Own({**GENERATION, "maxTokens": 10**6}),
    ("POST", "/api/llm/jobs"): Own({**GENERATION, "maxTokens": 10**6}),
    ("GET", "/api/llm/jobs"): Own(),
    ("GET", "/api/llm/jobs/<job_id>"): Foreign(),
    ("GET", "/api/llm/jobs/<job_id>/stream"): Foreign(),
    ("DELETE", "/api/llm/jobs/<job_id>"): Foreign(),
    ("GET", "/api/llm/jobs/<job_id>/webhooks"): Foreign(),
    ("POST", "/api/llm/batches"): Own(),
    ("GET", "/api/llm/batches"): Own(),
    ("GET", "/api/llm/batches/<batch_id>"): Foreign(),
    ("GET", "/api/llm/batches/<batch_id>/results"): Foreign(),
    ("POST", "/api/llm/batches/<batch_id>/cancel"): Foreign(),
    ("POST", "/api/llm/batches/<batch_id>/retry"): Foreign(),
    ("GET", "/api/llm/models"): Own(),
    ("GET", "/api/limits"): Own(),
    ("GET", "/api/webhooks"): Own(),
    ("POST", "/api/webhooks/<webhook_id>/resend"): Foreign({}),
    ("GET", "/api/usage"): Own(reaching=WHOSE),
    ("GET", "/api/admin/overview"): AdminOnly(),
    ("GET", "/api/admin/workers"): AdminOnly(),
    ("GET", "/api/admin/activity"): AdminOnly(),
    ("POST", "/v1/completions"): Own({"model": "m", "prompt": "hello", "max_tokens": 10**6}),
    ("POST", "/v1/chat/completions"): Own({**CHAT, "max_tokens": 10**6}),
    ("GET", "/v1/models"): Own(),
    ("GET", "/v1/models/<path:name>"): Own(),
    ("POST", "/v1/files"): Own(),
    ("GET", "/v1/files"): Own(),
    ("GET", "/v1/files/<file_id>"): Foreign(),
    ("GET", "/v1/files/<file_id>/content"): Foreign(),
    ("DELETE", "/v1/files/<file_id>"): Foreign(),
    ("POST", "/v1/batches"): Own(
        {**BATCH, "input_file_id": "file_x"}, reaching=({**BATCH, "input_file_id": "{file_id}"},)
    ),
    ("GET", "/v1/batches"): Own(),
    ("GET", "/v1/batches/<batch_id>"): Foreign(),
    ("POST", "/v1/batches/<batch_id>/cancel"): Foreign(),
}
