"""Texts of the document beside the calls: the service, groups of calls, credentials."""

from __future__ import annotations

from dataclasses import dataclass

DESCRIPTION = """\
Generate code from prompts, and report the usage of each customer.

`/api` is the API of this service, `/v1` is an API for OpenAI's clients; both have the same keys,
jobs and limits.

**Credentials.** Programs send the secret of a key. People sign in with `POST /api/auth/login` and
send the JWT. To generate, they also send the id of one of their keys as `x-api-key-id`.

**Errors** all have the same fields. The `code` is stable. The `requestId` names the request in the
service's logs. It equals `x-request-id` of the response, and your own id if you sent that header.

**Lists** are returned in pages. To get the next page, send `nextCursor` as `after`.

**Fields** of bodies below `/api` may also be written in snake_case. An unknown field is an error
that names it."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A group of calls."""

    name: str
    description: str


_GENERATING = Tag("Generate", "Generate a completion: wait for it, stream it, or create a job.")
_OPENAI = Tag("OpenAI's clients", "The same service for clients of OpenAI and of vLLM.")
_SERVICE = Tag("Service", "Health, version and documentation of the service.")

#: By blueprint, in the order of the page.
TAGS = {
    "generate": _GENERATING,
    "jobs": Tag("Jobs", "Read, stream and cancel jobs."),
    "batches": Tag(
        "Batches", "Many requests from one file: submit, poll, download, cancel, retry."
    ),
    "v1_generate": _OPENAI,
    "auth": Tag("Sign in", "Accounts and tokens."),
    "keys": Tag("Keys", "Create, limit, rotate and delete keys."),
    "limits": Tag("Limits and usage", "The limits of a key, and usage reports."),
    "webhooks": Tag("Webhooks", "Messages that the service sent at the end of a job or batch."),
    "users": Tag("Users", "For admins. Every user may read and change their own name and email."),
    "admin": Tag("Admin", "The dashboard, the workers and the audit trail."),
    "health": _SERVICE,
    "index": _SERVICE,
}
TAGS |= {
    "usage": TAGS["limits"],
    "models": _GENERATING,
    "v1_models": _OPENAI,
    "v1_files": _OPENAI,
    "v1_batches": _OPENAI,
    "docs": _SERVICE,
}

SECURITY_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "bc_…",
        "description": "the secret of a key, which is shown once, when the key is created",
    },
    "apiKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "the secret of a key, for programs that cannot set `Authorization`",
    },
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "the `token` of `POST /api/auth/login`",
    },
    "keyId": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key-id",
        "description": "the id of one of your keys, sent with a JWT",
    },
}
