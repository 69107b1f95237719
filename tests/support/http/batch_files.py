"""Files of batches: how tests send them, and how they end batch lines."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import requests
from sqlalchemy import func, select

from core.ids import Prefix, new_id, parse_id
from models.batches.batch import Batch
from models.database.base import SessionFactory
from models.execution.completion import record_ends
from models.execution.finish import finish_jobs
from models.jobs.job import Job, JobState
from models.jobs.outcome import JobOutcome
from models.jobs.transitions import finish_job
from tests.support.factories.rows import claim_jobs
from tests.support.service import Service

PATH = "/api/llm/batches"
JSONL = {"Content-Type": "application/jsonl"}


def jsonl(*lines: Any) -> bytes:
    """Return a file: bytes become a line as they are, other values as JSON."""
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


def requests_of(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"c{i}", "prompt": f"say {i}", "maxTokens": 8} for i in range(count)]


def send(
    service: Service, headers: dict[str, str], file: bytes, query: str = "", **more: str
) -> requests.Response:
    """Send a file as the body."""
    return service.call("POST", PATH + query, data=file, headers={**headers, **JSONL, **more})


def made(service: Service, headers: dict[str, str], *lines: Any, query: str = "") -> dict[str, Any]:
    """Return a new batch of these lines."""
    response = send(service, headers, jsonl(*lines), query)
    assert response.status_code == 201, response.text
    return dict(response.json())


def results(
    service: Service, headers: dict[str, str], batch: dict[str, Any], query: str = ""
) -> list[dict[str, Any]]:
    response = service.call("GET", f"{PATH}/{batch['id']}/results{query}", headers=headers)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def jobs_of(database: SessionFactory, batch: dict[str, Any]) -> list[Job]:
    """Return the jobs of a batch in the order of its lines."""
    with database() as session:
        query = select(Job).where(Job.batch_id == batch_uuid(batch)).order_by(Job.line)
        return list(session.scalars(query))


def batch_uuid(batch: dict[str, Any]) -> UUID:
    found = parse_id(Prefix.BATCH, batch["id"])
    assert found is not None
    return found


def release(database: SessionFactory, jobs: Sequence[Job]) -> None:
    """Release held batch lines, as the dispatcher does."""
    with database.begin() as session:
        for job in jobs:
            session.get_one(Job, job.id).is_held = False


def succeed(database: SessionFactory, jobs: Sequence[Job], text: str = "done") -> None:
    """Claim and complete lines, as a worker does."""
    worker_id = f"test-{new_id().hex}"
    release(database, jobs)
    with database.begin() as session:
        ids = [job.id for job in jobs]
        held = claim_jobs(session, ids, worker_id=worker_id, lease=timedelta(minutes=5))
        assert len(held) == len(jobs)
        choice = {"index": 0, "text": text, "finish_reason": "stop"}
        outcome = JobOutcome(
            JobState.SUCCEEDED,
            choices=[choice],
            prompt_tokens=5,
            completion_tokens=2,
            first_token=time.monotonic(),
        )
        ended = finish_jobs(session, [(job, outcome) for job in held], worker_id=worker_id)
        assert len(ended) == len(jobs)
        record_ends(session, ended)


def end(database: SessionFactory, job: Job, state: JobState) -> None:
    """End a line that no worker has claimed."""
    error = {"code": "engine_error", "message": "it broke"} if state is JobState.FAILED else None
    with database.begin() as session:
        outcome = JobOutcome(state=state, error=error)
        ended = finish_job(session, job.id, attempt=None, outcome=outcome)
        assert ended is not None
        record_ends(session, [ended])


def counts(database: SessionFactory) -> tuple[int, int]:
    """Return the numbers of batches and jobs."""
    with database() as session:
        found = [session.scalar(select(func.count()).select_from(t)) or 0 for t in (Batch, Job)]
    return found[0], found[1]


def ended_batch(
    service: Service, headers: dict[str, str], database: SessionFactory, query: str = ""
) -> dict[str, object]:
    """Return a batch of which lines 2, 3 and 4 did not succeed, and 5 was skipped."""
    query += ("&" if query else "?") + "onError=skip"
    batch = made(service, headers, *requests_of(4), {"prompt": "", "custom_id": "bad"}, query=query)
    jobs = jobs_of(database, batch)
    succeed(database, jobs[:1])
    states = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
    for job, state in zip(jobs[1:4], states, strict=True):
        end(database, job, state)
    return batch
