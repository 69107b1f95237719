from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from models.accounts.api_key import ApiKey
from models.batches.admission import admit_batch, count_open, find_repeated_batch
from models.batches.batch import Batch, BatchState
from models.batches.reads import count_running
from models.database.base import database_now, utc_now
from models.jobs.idempotency import LIFE
from models.jobs.job import JobState
from tests.support.factories.rows import add_job, add_key


def add_batch(session: Session, key: ApiKey, **values: Any) -> Batch:
    now = utc_now()
    batch = Batch(
        user_id=key.user_id,
        api_key_id=key.id,
        model="m",
        **{"total": 1, "created_at": now, "expires_at": now + timedelta(days=1), **values},
    )
    session.add(batch)
    session.flush()
    return batch


def test_only_open_batches_count_for_admission(session: Session) -> None:
    key = add_key(session)
    add_batch(session, key)
    add_batch(session, key, state=BatchState.COMPLETED, finished_at=utc_now())
    add_batch(session, add_key(session))

    mine = add_batch(session, key)

    assert count_open(session, key.id) == 2
    assert admit_batch(session, mine, most=2, idempotency_key=None) is None
    refused = admit_batch(session, mine, most=1, idempotency_key=None)
    assert refused is not None and refused.repeated is None


def test_a_repeated_idempotency_key_returns_its_batch_before_the_bound_applies(
    session: Session,
) -> None:
    key = add_key(session)
    first = add_batch(session, key)
    assert admit_batch(session, first, most=1, idempotency_key="k") is None

    found = admit_batch(session, add_batch(session, key), most=1, idempotency_key="k")

    assert found is not None and found.repeated is first
    assert find_repeated_batch(session, add_key(session).id, "k") is None


def test_an_idempotency_key_may_be_reused_after_its_life(session: Session) -> None:
    key = add_key(session)
    old = add_batch(session, key, idempotency_key="k", created_at=database_now(session) - LIFE)
    new = add_batch(session, key)

    assert find_repeated_batch(session, key.id, "k") is None
    assert admit_batch(session, new, most=9, idempotency_key="k") is None

    session.refresh(old)
    assert (old.idempotency_key, new.idempotency_key) == (None, "k")


def test_counting_running_lines_reads_only_released_lines(session: Session) -> None:
    key = add_key(session)
    batch = add_batch(session, key, total=3000)
    add_job(session, key, batch_id=batch.id, line=1, state=JobState.RUNNING)
    add_job(session, key, batch_id=batch.id, line=2)
    columns = "user_id, api_key_id, queue, state, model, request, batch_id, created_at"
    session.execute(
        text(
            f"""
            insert into jobs (id, line, is_held, {columns}, prompt_tokens, completion_tokens,
                cached_tokens, attempt, request_id)
            select gen_random_uuid(), n, true, {columns}, 0, 0, 0, 0, ''
            from jobs, generate_series(3, 3000) n where line = 2
            """
        )
    )
    session.execute(text("analyze jobs"))
    plans: list[str] = []

    def explain(_: Any, cursor: Any, sql: str, values: Any, *rest: Any) -> None:
        cursor.execute("explain " + sql, values)
        plans.extend(row[0] for row in cursor.fetchall())

    event.listen(session.connection(), "before_cursor_execute", explain)

    assert count_running(session, [batch.id]) == {batch.id: 1}
    assert "ix_jobs_released" in "".join(plans)
