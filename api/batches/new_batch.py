"""The attributes of a new batch, apart from its lines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api.batches.options import BatchOptions, RetryOptions
from api.http.field_faults import invalid_request
from core.config.settings import Settings
from core.webhooks.target import check_webhook_url
from models.batches.batch import Batch, OnError


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """See `models.batches.batch.Batch`; `body_hash` is that of the whole request."""

    request_id: str
    window: timedelta
    on_error: OnError = OnError.REJECT
    name: str | None = None
    webhook_url: str | None = None
    labels: Mapping[str, Any] | None = None
    endpoint: str | None = None
    input_file_id: UUID | None = None
    retry_of: UUID | None = None
    idempotency_key: str | None = None
    body_hash: str | None = None

    @property
    def is_of_stored_lines(self) -> bool:
        """Whether the service stored the lines before this request."""
        return self.input_file_id is not None or self.retry_of is not None


def plan_upload(
    given: Mapping[str, str],
    settings: Settings,
    *,
    sha256: str,
    idempotency_key: str | None,
    request_id: str,
) -> BatchPlan:
    """Return the plan of a batch from the options of its upload.

    Raises:
        InvalidRequest: options are not valid; `fields` names each.
    """
    try:
        options = BatchOptions.model_validate(dict(given))
    except ValidationError as error:
        raise invalid_request(error, of="the options", kind=BatchOptions) from None
    _check(options, settings)
    return BatchPlan(
        request_id=request_id,
        window=options.completion_window,
        on_error=options.on_error,
        name=options.name,
        webhook_url=options.webhook_url,
        labels=options.metadata,
        idempotency_key=idempotency_key,
        body_hash=_digest(sha256, options.model_dump_json()),
    )


def plan_retry(
    old: Batch,
    options: RetryOptions,
    settings: Settings,
    *,
    idempotency_key: str | None,
    request_id: str,
) -> BatchPlan:
    """Return the plan of a retry; omitted options keep the values of the old batch.

    Raises:
        InvalidRequest: the webhook's URL is not allowed.
    """
    _check(options, settings)
    given = options.model_fields_set
    return BatchPlan(
        request_id=request_id,
        window=options.completion_window or old.expires_at - old.created_at,
        on_error=OnError(old.on_error),
        name=options.name if "name" in given else old.name,
        webhook_url=options.webhook_url if "webhook_url" in given else old.webhook_url,
        labels=options.metadata if "metadata" in given else old.labels,
        endpoint=old.endpoint,
        input_file_id=old.input_file_id,
        retry_of=old.id,
        idempotency_key=idempotency_key,
        body_hash=_digest(str(old.id), options.model_dump_json(exclude_unset=True)),
    )


def _check(options: RetryOptions, settings: Settings) -> None:
    if options.webhook_url is not None:
        check_webhook_url(options.webhook_url, settings)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
