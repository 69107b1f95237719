"""Generations: jobs, their answers and the events of their streams."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import NonNegativeInt

from api.responses.base import (
    NOT_REQUIRED,
    BatchId,
    CamelCaseSchema,
    JobId,
    KeyId,
    PageSchema,
    SnakeCaseSchema,
)
from core.queueing.names import QueueName
from models.jobs.job import JobState


class UsageSchema(SnakeCaseSchema):
    """Tokens of the model's own tokenizer.

    Attributes:
        prompt_tokens: of the prompt, as the chat template made it.
        completion_tokens: of all choices, without end tokens.
        cached_tokens: what a prefix or response cache saved.
    """

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    total_tokens: NonNegativeInt
    cached_tokens: NonNegativeInt


class LogprobsSchema(SnakeCaseSchema):
    """Log probabilities, one entry a token.

    Attributes:
        tokens: a part of a character is called by its bytes, `bytes:\\xf0\\x9f`; a special token,
            which adds nothing to the text, `special:<|im_end|>`.
        top_logprobs: of the most likely tokens at each place.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]]


class ChoiceSchema(SnakeCaseSchema):
    """One answer.

    Attributes:
        finish_reason: `stop` is the end token or a stop string, `length` is `maxTokens`.
    """

    text: str
    index: NonNegativeInt
    finish_reason: Literal["stop", "length", "cancelled"]
    logprobs: LogprobsSchema = NOT_REQUIRED


class CompletionHeadSchema(SnakeCaseSchema):
    id: JobId
    object: Literal["text_completion"]
    created: NonNegativeInt
    model: str


class CompletionSchema(CompletionHeadSchema):
    """An answer.

    Attributes:
        created: seconds since 1970.
        cached: it was given before, and no model ran.
    """

    choices: list[ChoiceSchema]
    usage: UsageSchema
    cached: Literal[True] = NOT_REQUIRED


class AddedChoiceSchema(SnakeCaseSchema):
    """What was added to one answer."""

    text: str
    index: NonNegativeInt
    finish_reason: Literal["stop", "length", "cancelled"] | None
    logprobs: LogprobsSchema = NOT_REQUIRED


class CompletionEventSchema(CompletionHeadSchema):
    """One event of a stream: the text that was added.

    Attributes:
        usage: in the last event only.
    """

    choices: list[AddedChoiceSchema]
    usage: UsageSchema = NOT_REQUIRED


class JobFaultSchema(SnakeCaseSchema):
    """Why a job failed."""

    code: str
    message: str


class ListedJobSchema(CamelCaseSchema):
    """A job, without its answer.

    Attributes:
        attempt: how often it was begun.
        expires_at: when it ends unless it has begun.
        cancel_requested_at: when somebody asked it to end while it ran.
        metadata: what the request said.
        texts_deleted_at: when its request and answer were deleted, as their time was over.
        usage: once it has ended.
        batch_id: of the batch that it is a line of; `line` is the line's number in the file.
        custom_id: the line's name in the file.
    """

    id: JobId
    object: Literal["job"]
    status: JobState
    key_id: KeyId
    model: str
    queue: QueueName
    attempt: NonNegativeInt
    created_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    metadata: dict[str, str] | None
    texts_deleted_at: datetime = NOT_REQUIRED
    error: JobFaultSchema = NOT_REQUIRED
    usage: UsageSchema = NOT_REQUIRED
    batch_id: BatchId = NOT_REQUIRED
    line: int = NOT_REQUIRED
    custom_id: str | None = NOT_REQUIRED


class JobSchema(ListedJobSchema):
    """A job.

    Attributes:
        result: the answer, or what was made of it until the job was cancelled.
        position: its place in line while it is queued, from 1.
        estimated_seconds: until it begins, if that is known.
    """

    result: CompletionSchema = NOT_REQUIRED
    position: int = NOT_REQUIRED
    estimated_seconds: float | None = NOT_REQUIRED


class JobPageSchema(PageSchema):
    data: list[ListedJobSchema]
