"""The official client of OpenAI's API, pointed at a service of ours."""

from __future__ import annotations

from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from core.ids import Prefix, parse_id
from models.jobs.job import Job, find_job
from tests.support.service import CALL_SECONDS, Service


def connect(service: Service, key: dict[str, Any], **options: Any) -> OpenAI:
    settings = {"max_retries": 0, "timeout": CALL_SECONDS, **options}
    return OpenAI(base_url=f"{service.url}/v1", api_key=key["secret"], **settings)


def model_of(service: Service) -> str:
    return service.settings.model_name


def say(text: str) -> ChatCompletionUserMessageParam:
    return {"role": "user", "content": text}


def job_of(service: Service, completion_id: str) -> Job:
    """Return the job of a completion."""
    wanted = parse_id(Prefix.JOB, f"{Prefix.JOB}_{completion_id.split('-')[1]}")
    assert wanted is not None
    with service.sessions() as session:
        job = find_job(session, wanted)
    assert job is not None
    return job


def ask(client: OpenAI, service: Service, **fields: Any) -> Any:
    options: dict[str, Any] = {"model": model_of(service), "messages": [say("x")], **fields}
    return client.chat.completions.create(**options)
