"""Webhooks and the attempts to deliver them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import NonNegativeInt

from api.responses.base import BatchId, CamelCaseSchema, JobId, KeyId, PageSchema, WebhookId
from models.webhooks.webhook import DeliveryState


class AttemptSchema(CamelCaseSchema):
    """One attempt.

    Attributes:
        status: of the receiver's answer; null when there was none.
        error: why there was none, or what was wrong with it.
    """

    at: datetime
    status: int | None
    error: str | None
    duration_ms: NonNegativeInt


class ListedWebhookSchema(CamelCaseSchema):
    """A message to a customer's address.

    Attributes:
        type: what happened, such as `job.succeeded` or `batch.completed`.
        job_id: the job that it tells of; null where it is a batch, as `batch_id` else.
        attempts_in_round: since it was made, or sent again.
    """

    id: WebhookId
    object: Literal["webhook"]
    type: str
    job_id: JobId | None
    batch_id: BatchId | None
    key_id: KeyId
    url: str
    state: DeliveryState
    attempts_in_round: NonNegativeInt
    created_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None


class WebhookSchema(ListedWebhookSchema):
    """A message with its newest attempts."""

    attempts: list[AttemptSchema]


class WebhooksOfJobSchema(CamelCaseSchema):
    data: list[WebhookSchema]


class WebhookPageSchema(PageSchema):
    data: list[ListedWebhookSchema]
