"""What the document says beside the calls: of the whole, of groups of calls, of credentials."""

from __future__ import annotations

from dataclasses import dataclass

DESCRIPTION = """\
Send a prompt, get code back; see who used how much.

`/api` is the product's own face, `/v1` the one for OpenAI's clients; both have the same keys,
jobs and limits.

**Credentials.** Programs send a key's secret alone. People sign in with `POST /api/auth/login` and
send the JWT; to generate, they send the id of one of their keys as `x-api-key-id` beside it.

**Errors** all have one shape. Their `code` is stable, and `requestId` names the request in the
service's logs: it is `x-request-id` of the answer, and yours if you sent that header.

**Lists** come in pages: `nextCursor` of one is `after` of the next.

**Fields** of bodies below `/api` may be written in snake_case too. One that is not known is an
error that names it."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A group of calls."""

    name: str
    description: str


_GENERATING = Tag("Generate", "From a prompt to an answer: at once, as a stream, or as a job.")
_OPENAI = Tag("OpenAI's clients", "The same service for the clients of OpenAI and of vLLM.")
_SERVICE = Tag("Service", "Is it there, and what does it offer.")

#: By blueprint, in the order of the page.
TAGS = {
    "generate": _GENERATING,
    "jobs": Tag("Jobs", "Look at jobs, follow their text, cancel them."),
    "batches": Tag("Batches", "Many requests from one file: send, look, fetch, cancel, retry."),
    "v1_generate": _OPENAI,
    "auth": Tag("Sign in", "Accounts and tokens."),
    "keys": Tag("Keys", "Make, limit, rotate and end keys."),
    "limits": Tag("Limits and usage", "What a key may still use, and what was used."),
    "webhooks": Tag("Webhooks", "What was told to whom at the end of a job."),
    "users": Tag("Users", "For admins; everyone may see and change the own name and email."),
    "admin": Tag("Admin", "Figures, workers, and who changed what."),
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
        "description": "a key's secret, as it was shown when the key was made",
    },
    "apiKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "a key's secret, for programs that cannot set `Authorization`",
    },
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "`token` of `POST /api/auth/login`",
    },
    "keyId": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key-id",
        "description": "the id of one of your keys, beside a JWT",
    },
}
