"""Creates a batch: validates all lines, then inserts all in one transaction.

A failure leaves nothing behind. Lines of every source and format take this way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO
from uuid import UUID

import redis

from api.auth.write_limits import count_bytes
from api.batches.line_reader import BatchLine
from api.batches.new_batch import BatchPlan
from api.batches.notify import notify_dispatchers
from api.batches.validation import LineRules, LineValidator, ValidatedLines
from api.services import Services
from core.concurrency.greenlets import Yielder
from core.errors import BountyError, IdempotencyConflict, RateLimited
from core.ids import new_id
from models.accounts.key_cache import RequestKey
from models.batches.admission import BatchRejection, admit_batch, count_open, find_repeated_batch
from models.batches.batch import Batch, OnError
from models.batches.lines import begin_writing, insert_lines
from models.database.base import Session, database_now

#: Most rows that one statement inserts, and most bytes of these.
PAGE_ROWS = 400
PAGE_BYTES = 512 * 1024
#: The end of a batch cannot be predicted: a retry each minute costs little.
OPEN_BATCHES_RETRY_SECONDS = 60.0


class BatchAbandoned(BountyError):
    """The client of this batch has disconnected."""


class _BatchNotAdmitted(BountyError):
    """Rolls back the insert of a batch that is not admitted."""

    def __init__(self, taken: BatchRejection) -> None:
        super().__init__()
        self.taken = taken


@dataclass(frozen=True, slots=True)
class CreatedBatch:
    """A committed batch; `is_new` unless the same request created it earlier."""

    batch: Batch
    is_new: bool = True


def create_batch(
    services: Services,
    key: RequestKey,
    lines: Callable[[Yielder], Iterable[BatchLine]],
    plan: BatchPlan,
    *,
    is_wanted: Callable[[], bool] = lambda: True,
) -> CreatedBatch:
    """Validate lines and commit them as a batch.

    Args:
        is_wanted: called regularly; when it returns False, no batch is created.

    Raises:
        InvalidRequest: lines are not valid; `fields` names them.
        RateLimited: the key has too many open batches, or its month's quota is too small for the
            prompts. Or the user's upload bytes of this minute are too few for stored lines.
        IdempotencyConflict: the idempotency key belongs to another request.
        BatchAbandoned: `is_wanted` returned False.
        redis.RedisError: the limits cannot be checked.
    """
    repeated = find_earlier_batch(services, key.id, plan)
    if repeated is not None:
        return repeated
    check_open_batches(services, key.id)
    yielder = Yielder()
    with tempfile.TemporaryFile() as rows:
        checks = LineValidator(_line_rules(services, key), rows, yielder)
        for _ in checks.run(lines(yielder)):
            _require_wanted(is_wanted)
        checked = checks.checked
        if not checked.accepted or (checked.rejected and plan.on_error is OnError.REJECT):
            raise checked.refusal()
        _check_quota(services, key, checked.prompt_tokens)
        if plan.is_of_stored_lines:
            count_bytes(services, key.user_id, rows.tell())
        return _write(services, key, checked, plan, yielder, is_wanted)


def _line_rules(services: Services, key: RequestKey) -> LineRules:
    """Return the rules for the lines of a batch.

    The context of the ready workers is not known while Redis is away: the model's applies then.
    """
    try:
        context_length = services.context_length()
    except redis.RedisError:
        context_length = services.prompts.tokenizer.context_length
    return LineRules(
        services.settings,
        services.prompts.tokenizer,
        services.prompts.counter,
        context_length,
        key.monthly_token_limit,
    )


def find_earlier_batch(
    services: Services, api_key_id: UUID, plan: BatchPlan
) -> CreatedBatch | None:
    """Return the batch that the same request created earlier, if it has an idempotency key.

    Raises:
        IdempotencyConflict: the key belongs to another request.
    """
    if plan.idempotency_key is None:
        return None
    with services.database.autocommit() as session:
        batch = find_repeated_batch(session, api_key_id, plan.idempotency_key)
    return _repeated(batch, plan) if batch is not None else None


def check_open_batches(services: Services, api_key_id: UUID) -> None:
    """Reject a batch early that `admit_batch` would reject at the end.

    Raises:
        RateLimited: the key has too many open batches.
    """
    with services.database.autocommit() as session:
        if count_open(session, api_key_id) >= services.settings.max_open_batches:
            raise _too_many(services)


def _check_quota(services: Services, key: RequestKey, prompt_tokens: int) -> None:
    limit = key.monthly_token_limit
    if limit is None:
        return
    state = services.limits.limiter.read(key, recall=services.recall(key.id))
    left = max(0, limit - state.used_in_month)
    if prompt_tokens > left:
        raise RateLimited(
            f"{left} of the month's {limit} tokens are left, but the prompts have {prompt_tokens}",
            code="monthly_quota_exceeded",
            retry_after_seconds=None if prompt_tokens > limit else state.month_seconds,
            headers={"x-should-retry": "false"},
        )


def _write(
    services: Services,
    key: RequestKey,
    checked: ValidatedLines,
    plan: BatchPlan,
    yielder: Yielder,
    is_wanted: Callable[[], bool],
) -> CreatedBatch:
    try:
        with services.database.batch_sessions.begin() as session:
            begin_writing(session)
            batch = _new_batch(services, key, checked, plan, now=database_now(session))
            session.add(batch)
            session.flush()
            for rows in _pages(checked.rows, yielder):
                insert_lines(session, batch, rows, priority=key.priority)
                _require_wanted(is_wanted)
            _admit_batch(session, services, batch, plan)
    except _BatchNotAdmitted as found:
        if found.taken.repeated is None:
            raise _too_many(services) from None
        return _repeated(found.taken.repeated, plan)
    services.metrics.batch_accepted(batch)
    notify_dispatchers(services)
    return CreatedBatch(batch)


def _admit_batch(session: Session, services: Services, batch: Batch, plan: BatchPlan) -> None:
    most = services.settings.max_open_batches
    taken = admit_batch(session, batch, most=most, idempotency_key=plan.idempotency_key)
    if taken is not None:
        if taken.repeated is not None:
            session.expunge(taken.repeated)
        raise _BatchNotAdmitted(taken)


def _new_batch(
    services: Services,
    key: RequestKey,
    checked: ValidatedLines,
    plan: BatchPlan,
    *,
    now: datetime,
) -> Batch:
    return Batch(
        id=new_id(),
        user_id=key.user_id,
        api_key_id=key.id,
        name=plan.name,
        endpoint=plan.endpoint,
        model=services.settings.model_name,
        on_error=plan.on_error,
        total=checked.total,
        failed=checked.rejected,
        webhook_url=plan.webhook_url,
        labels=plan.labels,
        input_file_id=plan.input_file_id,
        retry_of=plan.retry_of,
        body_hash=plan.body_hash,
        request_id=plan.request_id,
        created_at=now,
        expires_at=now + plan.window,
    )


def _pages(rows: IO[bytes], yielder: Yielder) -> Iterator[str]:
    """Yield the rows as JSON arrays of at most about `PAGE_BYTES`."""
    rows.seek(0)
    page: list[str] = []
    size = 0
    for row in rows:
        yielder.yield_if_due()
        page.append(row.decode())
        size += len(row)
        if len(page) >= PAGE_ROWS or size >= PAGE_BYTES:
            yield f"[{','.join(page)}]"
            page, size = [], 0
    if page:
        yield f"[{','.join(page)}]"


def _repeated(batch: Batch, plan: BatchPlan) -> CreatedBatch:
    if batch.body_hash != plan.body_hash:
        raise IdempotencyConflict(
            "this Idempotency-Key was used for another request",
            headers={"x-should-retry": "false"},
        )
    return CreatedBatch(batch, is_new=False)


def _too_many(services: Services) -> RateLimited:
    return RateLimited(
        f"this key already has {services.settings.max_open_batches} open batches",
        code="too_many_batches",
        retry_after_seconds=OPEN_BATCHES_RETRY_SECONDS,
    )


def _require_wanted(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise BatchAbandoned("the client has disconnected")
