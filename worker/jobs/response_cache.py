"""Fills the response cache before the ends of jobs are published."""

from __future__ import annotations

from collections.abc import Sequence

from redis.client import Pipeline

from core.completion.response_cache import CachedCompletion, ResponseCache
from core.generation import Generation
from models.jobs.job import Job, JobState


def cache_completions(cache: ResponseCache, jobs: Sequence[Job], pipe: Pipeline) -> None:
    """Add the completions of succeeded jobs that allow caching to a pipeline."""
    for job in jobs:
        if job.state == JobState.SUCCEEDED and job.request.get("cache"):
            completion = CachedCompletion(
                job.choices or [], job.prompt_tokens, job.completion_tokens
            )
            cache.store(job.user_id, Generation.from_row(job.request), completion, pipe=pipe)
