"""Adds users, keys, jobs and files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from argon2 import PasswordHasher
from sqlalchemy.orm import Session

from core.ids import new_id
from models.accounts.api_key import ApiKey, create_key
from models.accounts.user import Role, User, find_user_by_email
from models.database.base import utc_now
from models.database.prepared import Prepared, Statements
from models.execution import claims
from models.files.file import File, FilePiece
from models.jobs.job import Job

#: Of the admin whom the fixture `admin` adds.
ADMIN_EMAIL = "admin@bountycoder.com"
ADMIN_PASSWORD = "admin123"

_QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def add_user(session: Session, *, role: Role = Role.CUSTOMER) -> User:
    user = User(email=f"{new_id().hex}@example.com", password_hash="none", role=role)
    session.add(user)
    session.flush()
    return user


def add_admin(session: Session, *, email: str, password: str) -> User:
    """Add an admin, or return the existing one with this email."""
    admin = find_user_by_email(session, email)
    if admin is None:
        admin = User(
            email=email,
            name="Administrator",
            password_hash=hash_quickly(password),
            role=Role.ADMIN,
        )
        session.add(admin)
        session.flush()
    return admin


def hash_quickly(password: str) -> str:
    """Return a cheap hash: with the service's own, sign-ins would take a third of all tests."""
    return _QUICK_HASHER.hash(password)


def add_key(session: Session, user: User | None = None) -> ApiKey:
    owner = user or add_user(session)
    return create_key(session, user_id=owner.id, name="key", rate_limit=60)[0]


def make_job(key: ApiKey, **values: Any) -> Job:
    """Return a job of a key that no session has yet."""
    defaults = {
        "queue": "interactive",
        "model": "m",
        "request": {"prompt": "hello", "maxTokens": 50},
    }
    return Job(user_id=key.user_id, api_key_id=key.id, **{**defaults, **values})


def add_job(session: Session, key: ApiKey | None = None, **values: Any) -> Job:
    job = make_job(key or add_key(session), **values)
    session.add(job)
    session.flush()
    return job


class _SessionStatements:
    """Runs prepared statements in the transaction of a session."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection()

    def run(self, statement: Prepared, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        run = self._connection.exec_driver_sql
        run(f"prepare {statement.name} ({statement.types}) as {statement.sql}")
        rows = run(f"execute {statement.name} ({', '.join(['%s'] * len(values))})", tuple(values))
        found = [tuple(row) for row in rows]
        run(f"deallocate {statement.name}")
        return found


def claim_jobs(
    session: Session, job_ids: Sequence[UUID], *, worker_id: str, lease: timedelta
) -> list[Job]:
    """Take queued jobs for a worker, in the session's transaction."""
    statements = cast(Statements, _SessionStatements(session))
    return claims.claim_jobs(statements, job_ids, worker_id=worker_id, lease=lease)


def claim_job(session: Session, job_id: UUID, *, worker_id: str, lease: timedelta) -> Job | None:
    """Take one queued job for a worker, and return its row."""
    if not claim_jobs(session, [job_id], worker_id=worker_id, lease=lease):
        return None
    return session.get_one(Job, job_id, populate_existing=True)


def add_file(session: Session, key: ApiKey, *, size: int = 10, pieces: int = 0) -> File:
    """Add a file with a stated size of `size` bytes, and with `pieces` pieces of one byte."""
    file = File(
        id=new_id(),
        user_id=key.user_id,
        api_key_id=key.id,
        filename="in.jsonl",
        purpose="batch",
        bytes=size,
        expires_at=utc_now() + timedelta(days=1),
    )
    session.add(file)
    session.flush()
    session.add_all(FilePiece(file_id=file.id, place=place, data=b"a") for place in range(pieces))
    session.flush()
    return file
