"""The lines of the result files of a batch."""

from __future__ import annotations

from typing import Any

import pytest

from api.v1.batches.output_files import ResultFileId, ResultFileKind, serialize_line
from core.ids import new_id
from models.batches.batch import Batch
from models.database.base import utc_now
from models.jobs.job import Job, JobState, new_job

BATCH = Batch(endpoint="/v1/chat/completions", request_id="req_1")
LOGPROBS = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]}


def job(state: JobState, **values: Any) -> Job:
    given = {"choices": None, "error": None, "is_cached": False, **values}
    return new_job(
        id=new_id(),
        line=1,
        custom_id="mine",
        state=state,
        model="a-model",
        created_at=utc_now(),
        started_at=None,
        prompt_tokens=1,
        completion_tokens=1,
        cached_tokens=0,
        **given,
    )


@pytest.mark.parametrize("logprobs", [None, LOGPROBS])
def test_log_probabilities_are_returned_where_they_were_requested(logprobs: Any) -> None:
    choice = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": logprobs}

    serialized = serialize_line(BATCH, job(JobState.SUCCEEDED, choices=[choice]))

    body = serialized["response"]["body"]
    content = body["choices"][0]["logprobs"]
    assert (content is None) == (logprobs is None)
    assert content is None or content["content"][0]["token"] == "a"
    assert (serialized["custom_id"], serialized["response"]["request_id"]) == ("mine", "req_1")


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        (JobState.EXPIRED, None, "batch_expired"),
        (JobState.CANCELLED, None, "batch_cancelled"),
        (JobState.FAILED, {"code": "worker_lost", "message": "it died"}, "worker_lost"),
        (JobState.FAILED, None, "server_error"),
        (JobState.SUCCEEDED, None, "texts_deleted"),
    ],
)
def test_the_line_of_a_job_without_completion_has_its_error(
    state: JobState, error: Any, code: str
) -> None:
    serialized = serialize_line(BATCH, job(state, error=error))

    assert serialized["response"] is None
    assert serialized["error"]["code"] == code
    assert serialized["error"]["message"]


def test_ids_of_result_files_are_parsed_strictly() -> None:
    batch_id = new_id()

    for part in ResultFileKind:
        name = ResultFileId(part, batch_id)
        assert ResultFileId.read(str(name)) == name
    digits = batch_id.hex
    for text in ("", f"file_{digits}", f"file_in_{digits}", f"file_output_{digits}0", "a_b_c"):
        assert ResultFileId.read(text) is None
