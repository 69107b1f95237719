"""The body of a webhook is the job as the API shows it, within the size limit."""

from __future__ import annotations

import json
from typing import Any

from core.ids import new_id
from models.database.base import utc_now
from models.jobs.job import Job
from models.jobs.serializer import serialize_job, serialize_listed_job
from models.webhooks.webhook import WebhookDelivery
from worker.webhooks.message import MAX_BODY_BYTES, encode_message


def ended_job(**values: Any) -> Job:
    now = utc_now()
    return Job(
        id=new_id(),
        user_id=new_id(),
        api_key_id=new_id(),
        queue="interactive",
        model="m",
        request={"prompt": "p"},
        prompt_tokens=1,
        completion_tokens=2,
        cached_tokens=0,
        attempt=1,
        created_at=now,
        finished_at=now,
        **values,
    )


def message_of(job: Job, stored: Job | None) -> dict[str, Any]:
    """Return the message about the end of a job.

    Args:
        stored: the job's row, or None if the job was deleted.
    """
    event = f"job.{job.state}"
    delivery = WebhookDelivery(event=event, payload=serialize_listed_job(job))
    body = encode_message(delivery, stored)
    assert len(body) <= MAX_BODY_BYTES
    return dict(json.loads(body))


def test_the_data_is_the_job_as_in_the_api() -> None:
    job = ended_job(state="succeeded", choices=[{"text": "grün", "index": 0}])

    sent = message_of(job, job)

    assert sent == {
        "type": "job.succeeded",
        "timestamp": serialize_job(job)["finishedAt"],
        "data": serialize_job(job),
    }


def test_a_job_without_a_result_has_its_error() -> None:
    job = ended_job(state="failed", error={"code": "worker_lost", "message": "m"})

    assert message_of(job, job)["data"] == serialize_job(job)


def test_the_stored_part_of_a_deleted_job_is_sent() -> None:
    job = ended_job(state="succeeded", choices=[{"text": "t", "index": 0}])

    assert message_of(job, None)["data"] == serialize_listed_job(job)


def test_a_result_that_is_too_large_for_a_message_is_omitted() -> None:
    job = ended_job(state="succeeded", choices=[{"text": "x" * MAX_BODY_BYTES, "index": 0}])

    assert message_of(job, job)["data"] == {**serialize_listed_job(job), "resultOmitted": True}
