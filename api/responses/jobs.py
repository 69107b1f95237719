"""Generations: jobs, their answers and the events of their streams."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from api.responses.shown import SOMETIMES, BatchId, Count, JobId, KeyId, Page, Plain, Shown
from core.queueing.names import QueueName
from models.jobs.job import JobState


class Usage(Plain):
    """Tokens of the model's own tokenizer.

    Attributes:
        prompt_tokens: of the prompt, as the chat template made it.
        completion_tokens: of all choices, without end tokens.
        cached_tokens: what a prefix or response cache saved.
    """

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    cached_tokens: Count


class Logprobs(Plain):
    """Log probabilities, one entry a token.

    Attributes:
        tokens: a part of a character is called by its bytes, `bytes:\\xf0\\x9f`; a special token,
            which adds nothing to the text, `special:<|im_end|>`.
        top_logprobs: of the most likely tokens at each place.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]]


class Choice(Plain):
    """One answer.

    Attributes:
        finish_reason: `stop` is the end token or a stop string, `length` is `maxTokens`.
    """

    text: str
    index: Count
    finish_reason: Literal["stop", "length", "cancelled"]
    logprobs: Logprobs = SOMETIMES


class CompletionHead(Plain):
    id: JobId
    object: Literal["text_completion"]
    created: Count
    model: str


class Completion(CompletionHead):
    """An answer.

    Attributes:
        created: seconds since 1970.
        cached: it was given before, and no model ran.
    """

    choices: list[Choice]
    usage: Usage
    cached: Literal[True] = SOMETIMES


class AddedChoice(Plain):
    """What was added to one answer."""

    text: str
    index: Count
    finish_reason: Literal["stop", "length", "cancelled"] | None
    logprobs: Logprobs = SOMETIMES


class CompletionEvent(CompletionHead):
    """One event of a stream: the text that was added.

    Attributes:
        usage: in the last event only.
    """

    choices: list[AddedChoice]
    usage: Usage = SOMETIMES


class JobFault(Plain):
    """Why a job failed."""

    code: str
    message: str


class ListedJob(Shown):
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
    attempt: Count
    created_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    metadata: dict[str, str] | None
    texts_deleted_at: datetime = SOMETIMES
    error: JobFault = SOMETIMES
    usage: Usage = SOMETIMES
    batch_id: BatchId = SOMETIMES
    line: int = SOMETIMES
    custom_id: str | None = SOMETIMES


class ShownJob(ListedJob):
    """A job.

    Attributes:
        result: the answer, or what was made of it until the job was cancelled.
        position: its place in line while it is queued, from 1.
        estimated_seconds: until it begins, if that is known.
    """

    result: Completion = SOMETIMES
    position: int = SOMETIMES
    estimated_seconds: float | None = SOMETIMES


class JobPage(Page):
    data: list[ListedJob]
