"""A worker whose wall clock is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from core.config.settings import Settings
from models.database.base import SessionFactory
from models.jobs.job import Job
from tests.support.service import Service
from tests.system.faults.installation.clock import WallClocks

HOURS = 3600.0


@pytest.mark.parametrize("ahead", [-2 * HOURS, 2 * HOURS])
def test_a_wrong_clock_changes_no_time_to_the_first_token(
    base_settings: Settings,
    database: SessionFactory,
    tmp_path: Path,
    ahead: float,
) -> None:
    clock = WallClocks(tmp_path)
    if not clock.can_step:
        pytest.skip("no C compiler makes wrong clocks here")
    clock.step(None, ahead)
    environments = {"worker": clock.environment}
    with Service.started(
        base_settings, tmp_path, environments=environments, echo_tokens_per_second=20.0
    ) as service:
        key = {"x-api-key": service.make_key()["secret"]}
        body = {"prompt": "word " * 20, "maxTokens": 20}

        response = service.call("POST", "/api/llm/generate", json=body, headers=key)

        assert response.status_code == 200, response.text
    with database() as session:
        (job,) = session.scalars(select(Job))
    assert job.started_at and job.first_token_at and job.finished_at
    assert job.started_at <= job.first_token_at
    assert 0.5 < (job.finished_at - job.first_token_at).total_seconds() < 30
