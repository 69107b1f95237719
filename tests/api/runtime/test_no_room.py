"""An upload for which the machine has no disk space gets 503, not 500."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask.testing import FlaskClient

from models.accounts.api_key import create_key
from models.accounts.user import User
from models.database.base import SessionFactory
from tests.support.http.batch_files import JSONL, PATH, jsonl

MEGABYTE = 1024 * 1024


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Make the kernel refuse writes beyond `size` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_upload_without_disk_space_gets_503(
    app: FlaskClient, database: SessionFactory, admin: User, caplog: pytest.LogCaptureFixture
) -> None:
    with database.begin() as session:
        _, secret = create_key(session, user_id=admin.id, name="k", rate_limit=5)
    headers = {"x-api-key": secret.text, **JSONL}
    file = jsonl({"custom_id": "a", "prompt": "x" * 3 * MEGABYTE, "maxTokens": 1})

    with files_limited_to(MEGABYTE):
        response = app.post(PATH, data=file, headers=headers)

    assert response.status_code == 503
    assert response.get_json()["error"]["code"] == "overloaded"
    assert int(response.headers["Retry-After"]) >= 1
    assert "the machine has no resources left: File too large" in caplog.text
