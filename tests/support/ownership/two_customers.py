"""Two customers of one API: a victim who owns resources, and an attacker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from sqlalchemy import text

from core.security.api_key_secret import KeySecret
from models.accounts.api_key import ApiKey, create_key
from models.accounts.user import User, create_user
from models.batches.batch import Batch, BatchState
from models.database.base import Session, SessionFactory, utc_now
from models.jobs.job import JobState
from models.schema import metadata
from tests.support.factories.rows import add_job
from tests.support.ownership.routes import BATCH


@dataclass
class TwoCustomers:
    """A victim who owns one resource of each kind, and an attacker with all kinds of credentials.

    Attributes:
        ids: the value of each argument of a path; the ids are the victim's.
        marks: texts that no response to the attacker may contain.
        credentials: headers of the attacker, by the way in which they present the credentials.
        owner: headers of the victim.
        admin: headers of an admin.
    """

    app: FlaskClient
    database: SessionFactory
    ids: dict[str, str]
    marks: list[str]
    credentials: dict[str, dict[str, str]]
    owner: dict[str, str]
    admin: dict[str, str]

    def call(self, method: str, rule: str, headers: dict[str, str], **options: Any) -> Any:
        path = rule
        for name, value in self.ids.items():
            path = path.replace(f"<{name}>", value)
        assert "<" not in path, f"add a value for the argument of {rule} to TwoCustomers.ids"
        query = options.pop("query", "")
        return self.app.open(path + query, method=method, headers=headers, **options)

    def rows(self) -> list[str]:
        """Return every row of the database that contains one of the marks."""
        with self.database() as session:
            rows = [
                f"{table.name} {row}"
                for table in metadata.sorted_tables
                for row in session.scalars(text(f'select t::text from "{table.name}" t'))
            ]
        return sorted(row for row in rows if any(mark in row for mark in self.marks))


def add_ended_batch(session: Session, key: ApiKey, *, input_file_id: UUID) -> Batch:
    """Add a batch with a line that can be retried, and return it."""
    now = utc_now()
    batch = Batch(
        user_id=key.user_id,
        api_key_id=key.id,
        name="victims batch",
        endpoint=BATCH["endpoint"],
        input_file_id=input_file_id,
        model="m",
        total=1,
        failed=1,
        state=BatchState.COMPLETED,
        finished_at=now,
        expires_at=now,
    )
    session.add(batch)
    session.flush()
    add_job(
        session,
        key,
        batch_id=batch.id,
        line=1,
        state=JobState.FAILED,
        finished_at=now,
        error={"code": "engine_error", "message": "the victims line"},
    )
    return batch


def add_customer(session: Any, email: str, password_hash: str) -> tuple[User, ApiKey, KeySecret]:
    user = create_user(session, email=email, password_hash=password_hash)
    return user, *create_key(session, user_id=user.id, name=f"key of {email}", rate_limit=1000)
