"""Records the spans of a job: its wait on the queue, its generation, its end.

The spans are made after the end, from the times in the job's row. Running jobs keep no trace state,
and the stages of a job do not depend on tracing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from core.ids import Prefix, format_id
from core.observability.tracing import HEADER, Traces, nanoseconds
from models.database.base import utc_now
from models.jobs.job import Job, JobState


class JobTraces:
    """Records jobs as children of the requests that created them."""

    def __init__(self, traces: Traces, *, worker_id: str) -> None:
        self._traces = traces
        self._worker_id = worker_id

    def record(self, jobs: Sequence[Job]) -> None:
        """Record jobs whose ends were just committed."""
        now = utc_now()
        for job in jobs:
            if job.traceparent and job.started_at is not None and job.finished_at is not None:
                self._record(job, job.started_at, job.finished_at, now)

    def close(self) -> None:
        """Send the waiting spans, and stop."""
        self._traces.close()

    def _record(self, job: Job, started_at: datetime, finished_at: datetime, now: datetime) -> None:
        from opentelemetry.trace import SpanKind, StatusCode

        context = self._traces.read({HEADER: job.traceparent or ""})
        wait = self._traces.begin("queue", context, kind=SpanKind.CONSUMER, at=job.queued_at)
        wait.set_attribute("bountycoder.queue", job.queue)
        wait.end(nanoseconds(started_at))
        generate = self._traces.begin(
            f"generate {job.model}", context, at=started_at, attributes=self._attributes(job)
        )
        if job.first_token_at is not None:
            generate.add_event("first token", timestamp=nanoseconds(job.first_token_at))
        if job.state == JobState.FAILED:
            generate.set_status(StatusCode.ERROR, (job.error or {}).get("code"))
        generate.end(nanoseconds(finished_at))
        self._traces.begin("end", context, at=finished_at).end(nanoseconds(now))

    def _attributes(self, job: Job) -> dict[str, Any]:
        """Return a generation's attributes, by OpenTelemetry's names if they exist."""
        return {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "bountycoder",
            "gen_ai.request.model": job.model,
            "gen_ai.usage.input_tokens": job.prompt_tokens,
            "gen_ai.usage.output_tokens": job.completion_tokens,
            "gen_ai.response.finish_reasons": [
                str(choice["finish_reason"]) for choice in job.choices or []
            ],
            "bountycoder.job.id": format_id(Prefix.JOB, job.id),
            "bountycoder.job.state": job.state,
            "bountycoder.job.attempt": job.attempt,
            "bountycoder.request_id": job.request_id,
            "bountycoder.worker": self._worker_id,
        }
