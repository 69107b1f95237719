"""What people read instead of the API's names and messages: labels of fields, and sentences.

Forms take their labels from here, so that a message names a field as the page does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Flask

#: Of each field that a form sends or a page shows, by its name in the API.
LABELS: Mapping[str, str] = {
    "cache": "Response cache",
    "completionWindow": "Time to begin",
    "currentPassword": "Current password",
    "email": "Email",
    "expiresAt": "Expiry",
    "file": "File",
    "frequencyPenalty": "Frequency penalty",
    "graceSeconds": "The present secret",
    "ignoreEos": "Ignore the end of text",
    "isActive": "Active",
    "logprobs": "Log probabilities",
    "maxInFlight": "Jobs in flight",
    "maxTokens": "Max tokens",
    "messages": "Prompt",
    "messages.0": "System message",
    "metadata": "Labels",
    "minP": "Min P",
    "minTokens": "Min tokens",
    "model": "Model",
    "monthlyTokenLimit": "Tokens per month",
    "n": "Answers",
    "name": "Name",
    "newPassword": "New password",
    "onError": "Faulty lines",
    "password": "Password",
    "presencePenalty": "Presence penalty",
    "priority": "Priority",
    "prompt": "Prompt",
    "promptMode": "Kind of prompt",
    "rateLimit": "Requests per minute",
    "repetitionPenalty": "Repetition penalty",
    "role": "Role",
    "seed": "Seed",
    "stop": "Stop strings",
    "stream": "Streamed",
    "temperature": "Temperature",
    "tokenLimit": "Tokens per minute",
    "topK": "Top K",
    "topP": "Top P",
    "ttlSeconds": "Seconds to begin",
    "userId": "Owner",
    "webhookUrl": "Webhook",
}
#: What a refusal says by its code; `None` where the API's own message suits people.
TEXTS: Mapping[str, str | None] = {
    "batch_not_finished": None,
    "conflict": None,
    "context_length_exceeded": None,
    "database_unavailable": "The database is away. Try again in a few seconds.",
    "email_taken": "Another account has this email.",
    "engine_error": "The model could not make this answer.",
    "forbidden": None,
    "idempotency_conflict": None,
    "internal_error": "Something went wrong in the service.",
    "interrupted": "The service was stopped before the answer was whole.",
    "invalid_api_key": None,
    "invalid_credentials": None,
    "invalid_json": None,
    "invalid_request": None,
    "invalid_token": "Your session is no longer valid. Sign in again.",
    "job_cancelled": None,
    "job_expired": "The job had not begun within its time.",
    "key_expired": None,
    "key_inactive": None,
    "last_admin": None,
    "method_not_allowed": "The service does not take this.",
    "missing_credentials": "Your session is no longer valid. Sign in again.",
    "model_not_found": None,
    "monthly_quota_exceeded": None,
    "not_found": None,
    "nothing_to_retry": None,
    "overloaded": "The service has too much to do at the moment.",
    "payload_too_large": "This is larger than the service takes.",
    "queue_unavailable": "The service takes no new work at the moment. Try again in a few seconds.",
    "rate_limit_exceeded": None,
    "request_timeout": "What was sent did not arrive in time.",
    "token_expired": "Your session is no longer valid. Sign in again.",
    "token_limit_exceeded": None,
    "too_many_attempts": None,
    "too_many_batches": None,
    "too_many_files": None,
    "too_many_in_flight": None,
    "too_many_streams": None,
    "too_many_upload_bytes": None,
    "too_many_uploads": None,
    "too_many_waits": None,
    "too_many_writes": None,
    "unsupported_media_type": "The service does not take this kind of file.",
    "user_suspended": None,
    "worker_lost": "The job failed: its worker was lost more often than it may be.",
}

_FIRST_FIELD = re.compile(r"([a-z][A-Za-z]*(?:\.\w+)*)(?=[ :])")
#: Names that are words of their own stay: "the prompt has 9 tokens".
_NAMES_WITHIN = re.compile(
    r"`?\b(" + "|".join(name for name in LABELS if re.search("[A-Z]", name)) + r")\b`?"
)
_ENDS = (".", "!", "?", "…")


def label_of(param: str) -> str:
    """Return what a field is called; of an entry in a list, what the list is called."""
    name = param
    while name:
        if name in LABELS:
            return LABELS[name]
        name = name.rpartition(".")[0]
    return param


def sentence(message: str) -> str:
    """Return a message of the API as people read it: with labels, a capital and a full stop."""
    first = _FIRST_FIELD.match(message)
    if first and label_of(first[1]) != first[1]:
        message = label_of(first[1]) + message[first.end() :]
    message = _NAMES_WITHIN.sub(lambda found: LABELS[found[1]], message)
    return _finished(message)


def told(code: str, message: str) -> str:
    """Return what a person reads of a refusal."""
    return TEXTS.get(code) or sentence(message)


def told_of_field(param: str, message: str) -> str:
    """Return what a person reads of a wrong field; a line of a file keeps its own names."""
    return _finished(message) if param.startswith("line ") else sentence(message)


def told_of_job(error: Mapping[str, str]) -> str:
    """Return why a job failed; a program or a file made it, so it keeps the names in those."""
    return TEXTS.get(error["code"]) or _finished(error["message"])


def register_wording(app: Flask) -> None:
    app.jinja_env.globals["label"] = label_of
    app.add_template_filter(told_of_job)


def _finished(message: str) -> str:
    text = message[:1].upper() + message[1:]
    return text if text.endswith(_ENDS) or not text else f"{text}."
