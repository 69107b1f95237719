"""Schemas of webhooks and their attempts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import NonNegativeInt

from api.responses.base import BatchId, CamelCaseSchema, JobId, KeyId, PageSchema, WebhookId
from models.webhooks.webhook import DeliveryState


class AttemptSchema(CamelCaseSchema):
    """One attempt.

    Attributes:
        status: the status of the receiver's response; null if there was no response.
        error: why there was no response, or what was wrong with it.
    """

    at: datetime
    status: int | None
    error: str | None
    duration_ms: NonNegativeInt


class ListedWebhookSchema(CamelCaseSchema):
    """A message to the URL of a customer.

    Attributes:
        type: the event, such as `job.succeeded` or `batch.completed`.
        job_id: the job that ended; null if the message is about a batch.
        batch_id: the batch that ended; null if the message is about a job.
        attempts_in_round: the number of attempts since the message was created or resent.
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
    """A message with its latest attempts."""

    attempts: list[AttemptSchema]


class WebhooksOfJobSchema(CamelCaseSchema):
    data: list[WebhookSchema]


class WebhookPageSchema(PageSchema):
    data: list[ListedWebhookSchema]
