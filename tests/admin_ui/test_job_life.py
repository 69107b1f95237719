"""A job's page tells its life in the tones of its states."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.ids import Prefix, show_id
from models.base import SessionFactory, utc_now
from models.job import JobState
from models.user import User
from tests.admin_ui.pages import sign_in, text_of
from tests.models.factories import add_job


def page_of(browser: FlaskClient, database: SessionFactory, **values: Any) -> Any:
    """Return the page of a job that began ten seconds ago."""
    with database.begin() as session:
        began = utc_now() - timedelta(seconds=10)
        job = add_job(session, created_at=began - timedelta(seconds=2), started_at=began, **values)
        shown = show_id(Prefix.JOB, job.id)
    sign_in(browser)
    return browser.get(f"/jobs/{shown}")


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
    browser: FlaskClient, database: SessionFactory, admin: User, state: JobState, tone: str
) -> None:
    page = page_of(browser, database, state=state, finished_at=utc_now())

    assert f'<li class="{tone}">{state.capitalize()}' in page.text
    pieces = re.findall(r'<rect class="(\w+)"[^>]* width="([\d.]+)"', page.text)
    assert [piece for piece, width in pieces if float(width)] == ["waits", tone]


def test_a_running_job_shows_only_what_is_known_of_it(
    browser: FlaskClient, database: SessionFactory, admin: User
) -> None:
    page = page_of(browser, database, state=JobState.RUNNING)

    assert re.search(r"Running for 1\d(\.\d)? s", text_of(page))
    assert "To the first token" not in page.text
    assert "Tokens a second" not in page.text
    assert '<rect class="accent"' in page.text


def test_a_failure_is_told_in_words_with_its_code_beside(
    browser: FlaskClient, database: SessionFactory, admin: User
) -> None:
    error = {"code": "engine_error", "message": "CUDA: out of memory"}

    page = page_of(browser, database, state=JobState.FAILED, finished_at=utc_now(), error=error)

    assert "The model could not make this answer. engine_error" in text_of(page)
