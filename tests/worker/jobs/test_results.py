"""A runner stores every result that can be stored, and caches completions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from sqlalchemy.exc import OperationalError

from core.completion.response_cache import ResponseCache
from core.generation import Generation
from tests.support.worker.runner_harness import Harness
from worker.text.token_bytes import TokenBytes


def test_a_result_waits_for_the_database_to_come_back(harness: Harness) -> None:
    job_id = harness.add_job()
    sessions, failures = harness.ledger._finishes._sessions, [3]

    class UnreliableDatabase:
        """A database that is away for the first three transactions after the claim."""

        def begin(self) -> Any:
            if harness.leases.is_held(job_id, 1) and failures[0]:
                failures[0] -= 1
                raise OperationalError("commit", {}, Exception("connection refused"))
            return sessions.begin()

    harness.ledger._finishes._sessions = UnreliableDatabase()  # type: ignore[assignment]
    harness.run(job_id)

    assert failures == [0]
    assert harness.read(job_id).state == "succeeded"


@pytest.mark.parametrize("url", [None, "https://example.com/hook"], ids=["usage", "webhook"])
def test_an_end_whose_response_is_lost_is_written_once_and_acknowledged(
    harness: Harness, url: str | None
) -> None:
    request = {"prompt": "x", "maxTokens": 5, **({"webhookUrl": url} if url else {})}
    job_ids = [harness.add_job(request=request) for _ in range(6)]
    sessions, losses = harness.ledger._finishes._sessions, [1]

    class LosesResponse:
        """A database whose first response after a commit is lost."""

        @contextmanager
        def begin(self) -> Iterator[Any]:
            with sessions.begin() as session:
                yield session
            if losses[0]:
                losses[0] -= 1
                raise OperationalError("commit", {}, Exception("connection reset"))

    harness.ledger._finishes._sessions = LosesResponse()  # type: ignore[assignment]
    harness.run(*job_ids)

    assert losses == [0]
    assert [harness.read(job_id).state for job_id in job_ids] == ["succeeded"] * 6
    assert sorted(harness.messages.acknowledged) == sorted(job_ids)
    assert len(harness.usage()) == 6


class TokensWithNul(TokenBytes):
    """The bytes of tokens, some of which contain NUL."""

    def __getitem__(self, token_id: int) -> bytes:
        return super().__getitem__(token_id).replace(b"hello", b"he\0lo")


def test_a_generated_nul_becomes_a_replacement_character(harness: Harness) -> None:
    harness.delivery._tokens = TokensWithNul(harness.tokenizer.tokenizer)
    job_id = harness.add_job()

    harness.run(job_id)

    job = harness.read(job_id)
    assert job.state == "succeeded"
    assert job.choices is not None
    assert "he\ufffdlo" in job.choices[0]["text"]


def test_a_rejected_result_fails_only_its_own_job(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL stores no NUL in a text."""
    monkeypatch.setattr("worker.text.choice.storable", lambda text: text)
    harness.delivery._tokens = TokensWithNul(harness.tokenizer.tokenizer)
    guilty = harness.add_job()
    others = [harness.add_job(request={"prompt": "x", "maxTokens": 50}) for _ in range(5)]

    harness.run(guilty, *others)

    assert [harness.read(job_id).state for job_id in others] == ["succeeded"] * 5
    job = harness.read(guilty)
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error == {"code": "internal_error", "message": "the result could not be written"}
    assert len(harness.usage()) == 6


def test_a_completion_is_cached_when_its_end_is_published(
    harness: Harness, redis_client: redis.Redis
) -> None:
    request = {"prompt": "hello", "maxTokens": 50, "temperature": 0.0, "cache": True}
    job_id = harness.add_job(request=request)

    harness.run(job_id)

    cached = ResponseCache(redis_client, model="m", seconds=60).find(
        harness.read(job_id).user_id, Generation.from_row(request)
    )
    assert cached is not None
    assert cached.choices == harness.read(job_id).choices
