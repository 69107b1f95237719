"""Answers that may be given again: kept before the ends of their jobs are told."""

from __future__ import annotations

from collections.abc import Sequence

from redis.client import Pipeline

from core.completion.response_cache import CachedCompletion, ResponseCache
from core.generation import Generation
from models.jobs.job import Job, JobState


def keep_answers(answers: ResponseCache, jobs: Sequence[Job], pipe: Pipeline) -> None:
    """Add to a pipeline the answers of those jobs that succeeded and whose request allows it."""
    for job in jobs:
        if job.state == JobState.SUCCEEDED and job.request.get("cache"):
            answer = CachedCompletion(job.choices or [], job.prompt_tokens, job.completion_tokens)
            answers.store(job.user_id, Generation.from_row(job.request), answer, pipe=pipe)
