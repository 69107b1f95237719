"""Turns a request into a committed job on the queue: validate, charge, insert, enqueue.

The order is a contract. A request is charged only after all of it is valid. The row is committed
before its id is enqueued. A job that cannot be enqueued is marked failed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta

import redis

from api.generation.idempotency import Idempotency, find_repeated
from api.generation.polling import charge_poll
from api.generation.validation import NATIVE_NAMES, FieldNames, ValidatedGeneration, validate
from api.services import Services
from core.completion.response_cache import CachedCompletion
from core.config.settings import CacheBilling
from core.errors import Unavailable
from core.generation import Generation
from core.ids import new_id
from core.queueing.names import QueueName
from models.accounts.key_cache import RequestKey
from models.database.base import DATABASE_AWAY, Session, database_now, utc_now
from models.database.prepared import OutcomeUnknown
from models.execution.completion import record_end
from models.jobs.idempotency import claim_idempotency_key, release_idempotency_key
from models.jobs.job import Job, JobState, new_job
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from models.usage.limits import ended_job

_log = logging.getLogger(__name__)


class KeyChanged(Exception):
    """The key has changed since it was looked up: nothing was charged, no job was made."""


@dataclass(frozen=True, slots=True)
class AdmittedJob:
    """A committed job that waits to be enqueued.

    The job of a repeated request or of a cached completion needs no queue.

    Attributes:
        headers: of the response: the state of the key's limits.
        idempotency: the idempotency key with which the caller may retry the request.
        is_new: this request made the job.
    """

    job: Job
    services: Services
    headers: dict[str, str] = field(default_factory=dict)
    idempotency: Idempotency | None = None
    is_new: bool = True

    @property
    def is_cancelled_on_disconnect(self) -> bool:
        """Whether no other request can ask for the result when this client disconnects."""
        return self.is_new and self.idempotency is None

    def enqueue(self) -> None:
        """Put the job on its queue.

        Raises:
            Unavailable: Redis is away. The job is marked failed.
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
                return  # only the response of Redis was lost: a worker has begun the job
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
                release_idempotency_key(session, self.job.api_key_id, self.idempotency.key)
            record_end(session, failed)
        self.services.metrics.jobs.count(failed.queue, failed.state, 1)
        _release(self.services, self.job)
        return True


def admit(
    services: Services,
    key: RequestKey,
    generation: Generation,
    *,
    request_id: str,
    traceparent: str | None = None,
    idempotency: Idempotency | None = None,
    may_shorten: bool = False,
    names: FieldNames = NATIVE_NAMES,
) -> AdmittedJob:
    """Validate a generation, charge the key's limits and commit its job.

    A repeated request returns the job that it made earlier. A cached completion makes a job that
    has already ended.

    Args:
        key: may come from the cache only if `may_use_cached_key` allows it.
        may_shorten: see `validate`.
        names: the caller's names of the fields.

    Raises:
        NotFound: the request names another model.
        InvalidRequest: a value is out of this service's range.
        ContextLengthExceeded: prompt and completion cannot fit into the model's context.
        IdempotencyConflict: the idempotency key belongs to another request.
        RateLimited: a limit of the key is reached; nothing was charged and no job was made. Or the
            request was repeated more often than the poll limit allows.
        redis.RedisError: the limits cannot be checked.
        KeyChanged: look the key up, and try again.
    """
    if idempotency is not None:
        repeated = _find_repeated(services, key, idempotency)
        if repeated is not None:
            return repeated
    validated = validate(services, key, generation, may_shorten=may_shorten, names=names)
    cached = services.jobs.response_cache.find(key.user_id, validated.generation)
    job = _new_job(services, key, validated, request_id, traceparent)
    if cached is not None:
        _complete_from_cache(job, cached, services.settings.response_cache_billing)
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
    repeated = _find_repeated(services, key, idempotency)  # the same request at the same moment
    if repeated is None:
        raise Unavailable("the same request is being refused at this moment, try again")
    return repeated


def may_use_cached_key(generation: Generation, idempotency: Idempotency | None) -> bool:
    """Say whether the statement that inserts the job also checks the version of its key."""
    return idempotency is None and not generation.cache


def _commit(services: Services, key: RequestKey, job: Job, idempotency: Idempotency | None) -> bool:
    """Commit a charged job; release it and return False if the same request came earlier."""
    must_release = True
    try:
        if idempotency is None and not job.is_final:
            if not services.jobs.inserts.insert(job, key):
                raise KeyChanged
        else:
            with services.database.sessions() as session:
                if not _insert(session, job, idempotency):
                    return False
                must_release = False  # the row may come from here on: the reconciler finds out
                session.commit()
        must_release = False
    except OutcomeUnknown:
        must_release = False
        services.jobs.cancellation.forestall(job)
        raise
    finally:
        if must_release:
            _release(services, job)
    if job.is_final:
        services.jobs.completion.announce([ended_job(job)])
    return True


def _insert(session: Session, job: Job, idempotency: Idempotency | None) -> bool:
    """Insert a job, its idempotency key and its end; False if the same request came earlier."""
    if idempotency is not None and not _claim_key(session, job, idempotency):
        return False
    _set_dates(session, job)
    session.add(job)
    session.flush()
    if job.is_final:
        record_end(session, job)
    return True


def _release(services: Services, job: Job) -> None:
    """Release the charge of a job that is not made."""
    try:
        services.limits.limiter.release(job.api_key_id, job.id)
    except redis.RedisError:
        _log.warning("a charge could not be released: the limit reconciler releases it")


def _new_job(
    services: Services,
    key: RequestKey,
    validated: ValidatedGeneration,
    request_id: str,
    traceparent: str | None,
) -> Job:
    generation, prompt_tokens = validated.generation, validated.prompt_tokens
    now = utc_now()  # until the database dates the row and shifts `expires_at`
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


def _complete_from_cache(job: Job, cached: CachedCompletion, billing: CacheBilling) -> None:
    """End a job that no worker began, with a cached completion.

    Tokens that are not billed are not counted. `cached_tokens` has all that were saved.
    """
    is_billed = billing is CacheBilling.FULL
    job.state = JobState.SUCCEEDED
    job.is_cached = True
    job.choices = cached.choices
    job.prompt_tokens = cached.prompt_tokens if is_billed else 0
    job.completion_tokens = cached.completion_tokens if is_billed else 0
    job.cached_tokens = cached.prompt_tokens + cached.completion_tokens
    job.charged_tokens = job.prompt_tokens + job.completion_tokens


def _set_dates(session: Session, job: Job) -> None:
    """Date a job by the clock of the database, as `JobInserts` does."""
    now = database_now(session)
    if job.expires_at is not None:
        job.expires_at += now - job.created_at
    job.created_at = now
    if job.is_final:
        job.started_at = job.first_token_at = job.finished_at = now


def _claim_key(session: Session, job: Job, idempotency: Idempotency) -> bool:
    return claim_idempotency_key(
        session,
        job.api_key_id,
        idempotency.key,
        body_hash=idempotency.body_hash,
        job_id=job.id,
    )


def _find_repeated(
    services: Services, key: RequestKey, idempotency: Idempotency
) -> AdmittedJob | None:
    """Return the job that the same request made earlier; this counts as a poll."""
    with services.database.sessions() as session:
        job = find_repeated(session, key.id, idempotency)
    if job is None:
        return None
    charge_poll(services, job.api_key_id)
    headers = {"Idempotency-Replayed": "true"}
    return AdmittedJob(job, services, headers, idempotency, is_new=False)
