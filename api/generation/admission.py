"""From a valid request to a committed job on the queue: check, limit, write, send.

The order is the contract: nothing is charged before everything is valid, the row is committed
before its id is sent, and a job that could not be sent is failed, so nothing is half done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta

import redis

from api.generation.context_limit import measure
from api.generation.idempotency import Idempotency, find_repeated
from api.generation.polling import charge_poll
from api.generation.validation import (
    NATIVE_NAMES,
    FieldNames,
    check_generation,
    max_result_tokens,
    shorten,
)
from api.services import Services
from core.completion.response_cache import CachedAnswer
from core.config.settings import CacheBilling
from core.errors import Unavailable
from core.generation import Generation
from core.ids import new_id
from core.queueing.names import QueueName
from models.accounts.key_cache import PresentedKey
from models.database.base import DATABASE_AWAY, Session, database_now, utc_now
from models.database.prepared import Unanswered
from models.execution.completion import record_end
from models.jobs.idempotency import claim_idempotency_key, forget_idempotency_key
from models.jobs.job import Job, JobOutcome, JobState, new_job
from models.jobs.transitions import finish_job
from models.usage.limits import ended_job

_log = logging.getLogger(__name__)


class KeyChanged(Exception):
    """The key is not what it was when it was looked up: nothing was charged, no job was made."""


@dataclass(frozen=True, slots=True)
class AdmittedJob:
    """A committed job that waits to be sent, unless it was there before or needs no model.

    Attributes:
        headers: what its answer says of the key's limits.
        idempotency: the caller's key, under which it may come back.
        is_new: the job was made by this request.
    """

    job: Job
    services: Services
    headers: dict[str, str] = field(default_factory=dict)
    idempotency: Idempotency | None = None
    is_new: bool = True

    @property
    def is_cancelled_on_disconnect(self) -> bool:
        """Whether nobody will ask for the answer when this client goes away."""
        return self.is_new and self.idempotency is None

    def send(self) -> None:
        """Put the job on its queue.

        Raises:
            Unavailable: Redis is away; the job is marked failed.
        """
        if not self.is_new or self.job.is_final:
            return
        try:
            self.services.jobs.queue.send(self.job.id, QueueName(self.job.queue))
        except redis.RedisError:
            try:
                has_failed = self._fail()
            except DATABASE_AWAY:
                self.services.jobs.cancellation.abandon(self.job.id)
                raise
            if not has_failed:
                return  # only the answer was lost: a worker has begun it
            raise Unavailable(
                "the queue is away, try again soon", code="queue_unavailable"
            ) from None

    def _fail(self) -> bool:
        error = {"code": "queue_unavailable", "message": "the queue was away"}
        with self.services.database.sessions.begin() as session:
            outcome = JobOutcome(state=JobState.FAILED, error=error)
            failed = finish_job(session, self.job.id, attempt=None, outcome=outcome)
            if failed is None:
                return False
            if self.idempotency is not None:
                forget_idempotency_key(session, self.job.api_key_id, self.idempotency.key)
            record_end(session, failed)
        self.services.metrics.jobs.ended(failed.queue, failed.state, 1)
        _release(self.services, self.job)
        return True


def admit(
    services: Services,
    key: PresentedKey,
    generation: Generation,
    *,
    request_id: str,
    traceparent: str | None = None,
    idempotency: Idempotency | None = None,
    may_shorten: bool = False,
    names: FieldNames = NATIVE_NAMES,
) -> AdmittedJob:
    """Check a generation, charge the key's limits and commit its job.

    A repeated request gets the job that it made before, and an answer that may be given again
    a job that has ended already.

    Args:
        key: may be believed only where `may_use_cached_key` says so.
        may_shorten: `max_tokens` is not the caller's own word: where the context, the key's tokens
            of a minute or a month, or the size of a result leave room for less, less is asked for.
        names: what the caller's face calls the fields.

    Raises:
        NotFound: another model was asked for.
        InvalidRequest: a value is out of this service's range.
        ContextLengthExceeded: prompt and answer cannot fit into the model's context.
        IdempotencyConflict: the caller's key stands for another request.
        RateLimited: a limit of the key is reached; nothing was charged and no job was made. Or a
            repeated request comes too often.
        redis.RedisError: the limits cannot be checked.
        KeyChanged: look the key up, and try again.
    """
    if idempotency is not None and (before := _find_before(services, key, idempotency)) is not None:
        return before
    if may_shorten:
        generation = shorten(generation, max_result_tokens(generation))
    check_generation(services.settings, generation, names)
    generation, prompt_tokens = measure(services, key, generation, may_shorten=may_shorten)
    cached = services.jobs.response_cache.find(key.user_id, generation)
    job = _new_job(services, key, generation, prompt_tokens, request_id, traceparent)
    if cached is not None:
        _answer(job, cached, services.settings.response_cache_billing)
    else:
        services.limits.backlog.check()
    limit = services.limits.limiter.charge(
        key, job.id, tokens=job.charged_tokens, recall=services.recall(key.id)
    )
    headers = limit.headers
    if cached is not None:
        headers["x-cache"] = "hit"
    if _commit(services, key, job, idempotency):
        return AdmittedJob(job, services, headers, idempotency)
    assert idempotency is not None
    before = _find_before(services, key, idempotency)  # the same request at the same moment
    if before is None:
        raise Unavailable("the same request is being refused at this moment, try again")
    return before


def may_use_cached_key(generation: Generation, idempotency: Idempotency | None) -> bool:
    """Say whether a job is written by the one statement that looks at its key too."""
    return idempotency is None and not generation.cache


def _commit(
    services: Services, key: PresentedKey, job: Job, idempotency: Idempotency | None
) -> bool:
    """Commit a job that was charged; False, and nothing is charged, if another came before it."""
    must_release = True
    try:
        if idempotency is None and not job.is_final:
            if not services.jobs.inserts.insert(job, key):
                raise KeyChanged
        else:
            with services.database.sessions() as session:
                if not _add(session, job, idempotency):
                    return False
                must_release = False  # from here on the row may come: the settler finds out
                session.commit()
        must_release = False
    except Unanswered:
        must_release = False
        services.jobs.cancellation.forestall(job)
        raise
    finally:
        if must_release:
            _release(services, job)
    if job.is_final:
        services.jobs.completion.announce([ended_job(job)])
    return True


def _add(session: Session, job: Job, idempotency: Idempotency | None) -> bool:
    """Write a job and what follows from it, uncommitted; False if another came before it."""
    if idempotency is not None and not _claim(session, job, idempotency):
        return False
    _date(session, job)
    session.add(job)
    session.flush()
    if job.is_final:
        record_end(session, job)
    return True


def _release(services: Services, job: Job) -> None:
    """Take back the charge of a job that does not come to be."""
    try:
        services.limits.limiter.release(job.api_key_id, job.id)
    except redis.RedisError:
        _log.warning("a charge could not be taken back now: the settler will")


def _new_job(
    services: Services,
    key: PresentedKey,
    generation: Generation,
    prompt_tokens: int,
    request_id: str,
    traceparent: str | None,
) -> Job:
    now = utc_now()  # until the database dates the row, and moves `expires_at` with it
    ttl = generation.ttl_seconds
    return new_job(
        id=new_id(),
        user_id=key.user_id,
        api_key_id=key.id,
        queue=QueueName.INTERACTIVE,
        state=JobState.QUEUED,
        priority=key.priority,
        model=services.settings.model_name,
        request=generation.to_row(),
        prompt_tokens=prompt_tokens,
        completion_tokens=0,
        cached_tokens=0,
        attempt=0,
        charged_tokens=prompt_tokens + generation.max_tokens * generation.n,
        is_streamed=generation.stream,
        request_id=request_id,
        traceparent=traceparent,
        created_at=now,
        expires_at=now + timedelta(seconds=ttl) if ttl is not None else None,
    )


def _answer(job: Job, cached: CachedAnswer, billing: CacheBilling) -> None:
    """End a job that was not begun with an answer that was given before.

    Tokens that are not billed are not counted: `cached_tokens` says what was saved.
    """
    is_billed = billing is CacheBilling.FULL
    job.state = JobState.SUCCEEDED
    job.is_cached = True
    job.choices = cached.choices
    job.prompt_tokens = cached.prompt_tokens if is_billed else 0
    job.completion_tokens = cached.completion_tokens if is_billed else 0
    job.cached_tokens = cached.prompt_tokens + cached.completion_tokens
    job.charged_tokens = job.prompt_tokens + job.completion_tokens


def _date(session: Session, job: Job) -> None:
    """Date a job by the one clock that all machines share, as `JobInserts` does."""
    now = database_now(session)
    if job.expires_at is not None:
        job.expires_at += now - job.created_at
    job.created_at = now
    if job.is_final:
        job.started_at = job.first_token_at = job.finished_at = now


def _claim(session: Session, job: Job, idempotency: Idempotency) -> bool:
    return claim_idempotency_key(
        session,
        job.api_key_id,
        idempotency.key,
        body_hash=idempotency.body_hash,
        job_id=job.id,
    )


def _find_before(
    services: Services, key: PresentedKey, idempotency: Idempotency
) -> AdmittedJob | None:
    """Return the job that the same request made before; that counts as a poll of it."""
    with services.database.sessions() as session:
        job = find_repeated(session, key.id, idempotency)
    if job is None:
        return None
    charge_poll(services, job.api_key_id)
    headers = {"Idempotency-Replayed": "true"}
    return AdmittedJob(job, services, headers, idempotency, is_new=False)
