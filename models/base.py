"""The declarative base, the engine and sessions. Functions in `models/` take a `Session` and never
commit: whoever opened the transaction commits it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import DateTime, Engine, MetaData, create_engine, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, sessionmaker
from sqlalchemy.orm import Session as Session  # handed to the other layers

from core.settings import Settings

SessionFactory = sessionmaker[Session]

#: What drivers raise when the database is away or too slow: callers answer 503 or try again.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to declare it
        datetime: DateTime(timezone=True),
        UUID: PG_UUID(as_uuid=True),
    }


def open_database(settings: Settings) -> Engine:
    """Return an engine; nothing connects before its first use.

    Waiting for a free connection, for a statement and for a lock ends within
    `database_timeout_seconds`; a peer that answers nothing at all is given up after twice that.
    """
    timeout = settings.database_timeout_seconds
    return create_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text must not carry prompts and answers into a log
        connect_args={
            "connect_timeout": max(2, round(timeout)),
            "options": f"-c statement_timeout={round(timeout * 1000)} -c timezone=UTC",
            "application_name": "bountycoder",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": round(timeout * 2000),
        },
    )


def sessions(engine: Engine) -> SessionFactory:
    return sessionmaker(engine, expire_on_commit=False)


def utc_now() -> datetime:
    return datetime.now(UTC)


def ping(session: Session) -> None:
    """Ask the database for a sign of life. Raises one of `DATABASE_AWAY`."""
    session.execute(text("select 1"))
