"""Labels of the API's fields, and sentences for its errors.

Forms and error messages use the same labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Flask

#: Label of each field that a form sends or a page shows, by API name.
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
#: Sentence for each error code; `None` uses the API's message.
TEXTS: Mapping[str, str | None] = {
    "batch_not_finished": None,
    "conflict": None,
    "context_length_exceeded": None,
    "database_unavailable": "The database is away. Try again in a few seconds.",
    "email_taken": "Another account has this email.",
    "engine_error": "The model could not generate this completion.",
    "forbidden": None,
    "idempotency_conflict": None,
    "internal_error": "Something went wrong in the service.",
    "interrupted": "The service stopped before the completion was finished.",
    "invalid_api_key": None,
    "invalid_credentials": None,
    "invalid_json": None,
    "invalid_request": None,
    "invalid_token": "Your session is no longer valid. Sign in again.",
    "job_cancelled": None,
    "job_expired": "The job did not start in time.",
    "key_expired": None,
    "key_inactive": None,
    "last_admin": None,
    "method_not_allowed": "The service does not accept this request.",
    "missing_credentials": "Your session is no longer valid. Sign in again.",
    "model_not_found": None,
    "monthly_quota_exceeded": None,
    "not_found": None,
    "nothing_to_retry": None,
    "overloaded": "The service is overloaded at the moment.",
    "payload_too_large": "This is larger than the service accepts.",
    "queue_unavailable": "The service accepts no new requests now. Try again in a few seconds.",
    "rate_limit_exceeded": None,
    "request_timeout": "The request did not arrive in time.",
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
    "unsupported_media_type": "The service does not accept this kind of file.",
    "user_suspended": None,
    "worker_lost": "The job failed: its worker was lost too often.",
}

_FIRST_FIELD = re.compile(r"([a-z][A-Za-z]*(?:\.\w+)*)(?=[ :])")
#: Only names with a capital: "prompt" in "the prompt has 9 tokens" is a plain word.
_NAMES_WITHIN = re.compile(
    r"`?\b(" + "|".join(name for name in LABELS if re.search("[A-Z]", name)) + r")\b`?"
)
_ENDS = (".", "!", "?", "…")


def label_of(param: str) -> str:
    """Return the label of a field, or of the list that the field is in."""
    name = param
    while name:
        if name in LABELS:
            return LABELS[name]
        name = name.rpartition(".")[0]
    return param


def sentence(message: str) -> str:
    """Return a message of the API with labels for names, a capital and a full stop."""
    first = _FIRST_FIELD.match(message)
    if first and label_of(first[1]) != first[1]:
        message = label_of(first[1]) + message[first.end() :]
    message = _NAMES_WITHIN.sub(lambda found: LABELS[found[1]], message)
    return _finished(message)


def error_text(code: str, message: str) -> str:
    """Return the sentence for an error of the API."""
    return TEXTS.get(code) or sentence(message)


def field_error_text(param: str, message: str) -> str:
    """Return the sentence for a wrong field; a line of a file keeps its API names."""
    return _finished(message) if param.startswith("line ") else sentence(message)


def job_error_text(error: Mapping[str, str]) -> str:
    """Return the sentence for a failed job; it keeps the API names of its request."""
    return TEXTS.get(error["code"]) or _finished(error["message"])


def register_wording(app: Flask) -> None:
    """Add `label` and `job_error_text` to the templates."""
    app.jinja_env.globals["label"] = label_of
    app.add_template_filter(job_error_text)


def _finished(message: str) -> str:
    text = message[:1].upper() + message[1:]
    return text if text.endswith(_ENDS) or not text else f"{text}."
