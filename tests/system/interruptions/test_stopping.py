"""Responses and jobs of clients whose API process stops."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from openai import APIError, InternalServerError
from sqlalchemy import select

from core.config.settings import Settings
from core.ids import Prefix, parse_id
from models.jobs.job import Job
from tests.support.http.openai_client import connect, model_of, say
from tests.support.polling import wait_until
from tests.support.service import PACE, Service

#: A chat whose completion takes much longer than this test.
ENDLESS: dict[str, Any] = {
    "messages": [say("word " * 40)],
    "max_tokens": 4000,
    "extra_body": {"ignore_eos": True},
}


def states_of(service: Service, key: dict[str, Any]) -> dict[str, str]:
    """Return the state of each of the key's jobs by its label."""
    with service.sessions() as session:
        wanted = parse_id(Prefix.KEY, key["id"])
        jobs = session.scalars(select(Job).where(Job.api_key_id == wanted)).all()
    return {job.request["metadata"]["label"]: job.state for job in jobs}


def test_a_stopping_process_responds_to_its_clients_and_cancels_abandoned_jobs(
    base_settings: Settings, redis_client: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("stopping")
    changes = {"echo_tokens_per_second": PACE, "drain_seconds": 6.0}
    with Service.started(base_settings, directory, **changes) as service:
        key = service.make_key()

        def ask(label: str, **options: Any) -> APIError:
            with connect(service, key) as openai, pytest.raises(APIError) as caught:
                response: Any = openai.chat.completions.create(
                    model=model_of(service), metadata={"label": label}, **ENDLESS, **options
                )
                list(response)
            return caught.value

        with ThreadPoolExecutor(3) as pool:
            streamed = pool.submit(ask, "streamed", stream=True)
            waited = pool.submit(ask, "waited")
            retryable = pool.submit(ask, "kept", extra_headers={"Idempotency-Key": "kept"})
            wait_until(
                lambda: sorted(states_of(service, key).values()) == ["running"] * 3,
                20,
                service.logs,
            )
            assert service.api is not None
            service.api.send_signal(signal.SIGTERM)
            errors = [one.result(30) for one in (streamed, waited, retryable)]

        assert {error.code for error in errors} == {"interrupted"}
        for error in errors[1:]:
            assert isinstance(error, InternalServerError)
            assert error.status_code == 503
            assert error.response.headers["retry-after-ms"] == "2000"
        ended = {"streamed": "cancelled", "waited": "cancelled", "kept": "running"}
        wait_until(lambda: states_of(service, key) == ended, 20, lambda: states_of(service, key))
