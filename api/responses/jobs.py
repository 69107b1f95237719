"""Schemas of jobs, completions and the events of streams."""

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
    """The number of tokens, by the model's own tokenizer.

    Attributes:
        prompt_tokens: tokens of the prompt, with the chat template.
        completion_tokens: tokens of all choices, without end tokens.
        cached_tokens: tokens that a prefix cache or the response cache saved.
    """

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    total_tokens: NonNegativeInt
    cached_tokens: NonNegativeInt


class LogprobsSchema(SnakeCaseSchema):
    """Log probabilities, one entry for each token.

    Attributes:
        tokens: the texts of the tokens. A part of a character is written as bytes,
            `bytes:\\xf0\\x9f`. A special token adds no text and is written as
            `special:<|im_end|>`.
        top_logprobs: the log probabilities of the most likely tokens at each position.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]]


class ChoiceSchema(SnakeCaseSchema):
    """One choice of a completion.

    Attributes:
        finish_reason: `stop` means an end token or a stop string, `length` means `maxTokens`.
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
    """A completion.

    Attributes:
        created: seconds since 1970.
        cached: the completion comes from the response cache; the model did not run.
    """

    choices: list[ChoiceSchema]
    usage: UsageSchema
    cached: Literal[True] = NOT_REQUIRED


class AddedChoiceSchema(SnakeCaseSchema):
    """The text that one choice gained."""

    text: str
    index: NonNegativeInt
    finish_reason: Literal["stop", "length", "cancelled"] | None
    logprobs: LogprobsSchema = NOT_REQUIRED


class CompletionEventSchema(CompletionHeadSchema):
    """One event of a stream: the text that a choice gained.

    Attributes:
        usage: only in the last event.
    """

    choices: list[AddedChoiceSchema]
    usage: UsageSchema = NOT_REQUIRED


class JobFaultSchema(SnakeCaseSchema):
    """Why a job failed."""

    code: str
    message: str


class ListedJobSchema(CamelCaseSchema):
    """A job, without its completion.

    Attributes:
        attempt: how many times a worker has started the job.
        expires_at: when the job expires if it has not started.
        cancel_requested_at: when its cancellation was requested while it ran.
        metadata: the labels from the request.
        texts_deleted_at: when retention deleted its request and completion.
        usage: the usage, when the job has ended.
        batch_id: the id of its batch, if it is a line of one; `line` is the number in the file.
        custom_id: the id of the line in the file.
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
        result: the completion, or the part that was generated before the cancellation.
        position: the position in the queue while the job waits, from 1.
        estimated_seconds: the time until the job starts, if known.
    """

    result: CompletionSchema = NOT_REQUIRED
    position: int = NOT_REQUIRED
    estimated_seconds: float | None = NOT_REQUIRED


class JobPageSchema(PageSchema):
    data: list[ListedJobSchema]
