"""Texts of customers are escaped on every page."""

from __future__ import annotations

import re

from flask.testing import FlaskClient

from core.ids import Prefix, format_id
from models.accounts.api_key import create_key
from models.accounts.user import User
from models.database.base import SessionFactory
from models.jobs.job import JobState
from tests.support.browser.pages import sign_in
from tests.support.factories.batches import add_batch
from tests.support.factories.rows import add_job

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"


def test_no_name_or_prompt_becomes_a_tag(
    pages_client: FlaskClient, database: SessionFactory, admin: User
) -> None:
    with database.begin() as session:
        user = User(email=f"{HOSTILE}@example.com", name=HOSTILE, password_hash="none")
        session.add(user)
        session.flush()
        key, _ = create_key(session, user_id=user.id, name=HOSTILE, rate_limit=60)
        job = add_job(
            session,
            key,
            model=HOSTILE,
            request={"prompt": HOSTILE, "maxTokens": 5, "metadata": {HOSTILE: HOSTILE}},
            state=JobState.FAILED,
            error={"code": "x", "message": HOSTILE},
        )
        batch = add_batch(session, key, lines=1, name=HOSTILE)
        paths = [
            *("/", "/customers", "/keys", "/usage?by=key", "/usage?by=user", "/jobs", "/batches"),
            f"/customers/{format_id(Prefix.USER, user.id)}",
            f"/keys/{format_id(Prefix.KEY, key.id)}",
            f"/jobs/{format_id(Prefix.JOB, job.id)}",
            f"/batches/{format_id(Prefix.BATCH, batch.id)}",
            "/jobs?user=%3Cscript%3Ealert(1)%3C/script%3E",
            "/sign-in?next=/%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        ]
    sign_in(pages_client)

    escaped = 0
    for path in paths:
        page = pages_client.get(path).text
        assert not re.search(r"<script>alert|<img src=x|\"'>|\b49\b(?=@example)", page), path
        escaped += page.count("&lt;script&gt;alert(1)")
    assert escaped > 10
