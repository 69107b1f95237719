"""The timeline on the page of a job: tones, durations and errors."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.ids import Prefix, format_id
from models.accounts.user import User
from models.database.base import SessionFactory, utc_now
from models.jobs.job import JobState
from tests.support.browser.pages import sign_in, text_of
from tests.support.factories.rows import add_job


def page_of(pages_client: FlaskClient, database: SessionFactory, **values: Any) -> Any:
    """Return the page of a job that started ten seconds ago."""
    with database.begin() as session:
        start = utc_now() - timedelta(seconds=10)
        job = add_job(session, created_at=start - timedelta(seconds=2), started_at=start, **values)
        job_id = format_id(Prefix.JOB, job.id)
    sign_in(pages_client)
    return pages_client.get(f"/jobs/{job_id}")


@pytest.mark.parametrize(
    ("state", "tone"),
    [
        (JobState.SUCCEEDED, "good"),
        (JobState.FAILED, "bad"),
        (JobState.CANCELLED, "warning"),
        (JobState.EXPIRED, "warning"),
    ],
)
def test_the_end_of_a_job_has_the_tone_of_its_state(
    pages_client: FlaskClient, database: SessionFactory, admin: User, state: JobState, tone: str
) -> None:
    page = page_of(pages_client, database, state=state, finished_at=utc_now())

    assert f'<li class="{tone}">{state.capitalize()}' in page.text
    segments = re.findall(r'<rect class="(\w+)"[^>]* width="([\d.]+)"', page.text)
    assert [segment for segment, width in segments if float(width)] == ["waits", tone]


def test_a_running_job_has_no_figures_of_its_end(
    pages_client: FlaskClient, database: SessionFactory, admin: User
) -> None:
    page = page_of(pages_client, database, state=JobState.RUNNING)

    assert re.search(r"Running for 1\d(\.\d)? s", text_of(page))
    assert "Time to first token" not in page.text
    assert "Tokens per second" not in page.text
    assert '<rect class="accent"' in page.text


def test_a_failure_has_a_sentence_and_its_code(
    pages_client: FlaskClient, database: SessionFactory, admin: User
) -> None:
    error = {"code": "engine_error", "message": "CUDA: out of memory"}

    page = page_of(
        pages_client, database, state=JobState.FAILED, finished_at=utc_now(), error=error
    )

    assert "The model could not generate this completion. engine_error" in text_of(page)
