"""From a valid request to a committed job on the queue: check, limit, write, send.

The order is the contract: nothing is charged before everything is valid, the row is committed
before its id is sent, and a job that could not be sent is failed, so nothing is half done.
"""

from __future__ import annotations

from dataclasses import dataclass

import redis

from api.services import Services
from core.blocking import run_blocking
from core.errors import ContextLengthExceeded, InvalidRequest, NotFound, Unavailable
from core.generation import Generation
from core.queue import QueueName
from core.rate_limit import LimitState
from models.api_key import ApiKey
from models.job import Job, JobOutcome, JobState, finish_job

#: Shorter prompts are encoded in less time than a thread costs.
ENCODE_INLINE_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Admitted:
    """A committed job that waits to be sent, and the key's limit after it was charged."""

    job: Job
    limit: LimitState
    services: Services

    def send(self) -> None:
        """Put the job on its queue.

        Raises:
            Unavailable: Redis is away; the job is marked failed.
        """
        try:
            self.services.queue.send(self.job.id, QueueName(self.job.queue))
        except redis.RedisError:
            if not self._fail():
                return  # only the answer was lost: a worker has begun it
            raise Unavailable(
                "the queue is away, try again soon", code="queue_unavailable"
            ) from None

    def _fail(self) -> bool:
        error = {"code": "queue_unavailable", "message": "the queue was away"}
        with self.services.sessions.begin() as session:
            outcome = JobOutcome(state=JobState.FAILED, error=error)
            return finish_job(session, self.job.id, attempt=None, outcome=outcome) is not None


def admit(services: Services, key: ApiKey, generation: Generation, *, request_id: str) -> Admitted:
    """Check a generation, charge the key's limit and commit its job.

    Raises:
        NotFound: another model was asked for.
        InvalidRequest: a value is out of this service's range.
        ContextLengthExceeded: prompt and answer cannot fit into the model's context.
        RateLimited: the key's limit is reached; nothing was charged and no job was made.
        redis.RedisError: the limit cannot be checked.
    """
    settings = services.settings
    if generation.model not in {None, settings.model_name}:
        raise NotFound(
            f"this service has the model {settings.model_name}",
            code="model_not_found",
            param="model",
        )
    if generation.max_tokens > settings.max_tokens_limit:
        raise InvalidRequest(
            f"maxTokens must be between 1 and {settings.max_tokens_limit}", param="maxTokens"
        )
    prompt_tokens = _count_prompt(services, generation)
    limit = services.limiter.charge(key.id, limit=key.rate_limit)
    job = Job(
        user_id=key.user_id,
        api_key_id=key.id,
        queue=QueueName.INTERACTIVE,
        state=JobState.QUEUED,
        priority=key.priority,
        model=settings.model_name,
        request=generation.to_row(),
        prompt_tokens=prompt_tokens,
        request_id=request_id,
    )
    with services.sessions.begin() as session:
        session.add(job)
    return Admitted(job, limit, services)


def _count_prompt(services: Services, generation: Generation) -> int:
    tokenizer = services.tokenizer
    characters = len(generation.prompt or "") + sum(
        len(message.content) for message in generation.messages or ()
    )
    if characters <= ENCODE_INLINE_CHARACTERS:
        prompt_tokens = len(tokenizer.encode(generation))
    else:
        prompt_tokens = len(run_blocking(tokenizer.encode, generation))
    if prompt_tokens + generation.max_tokens > tokenizer.context_length:
        raise ContextLengthExceeded(
            f"the prompt has {prompt_tokens} tokens and maxTokens is {generation.max_tokens}, "
            f"together more than the model's context of {tokenizer.context_length}",
            param="prompt" if generation.prompt is not None else "messages",
        )
    return prompt_tokens
