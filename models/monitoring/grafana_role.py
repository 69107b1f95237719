"""The database role of Grafana, which may read only the dashboards' columns.

Columns of later migrations stay closed until `READABLE` lists them. The role may read no password
hashes, no secrets of keys, and no jobs with their prompts and completions.
"""

from __future__ import annotations

import psycopg2.extensions
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.errors import LauncherError

ROLE = "bountycoder_dashboards"
#: Columns that the role may read, by table.
READABLE = {
    "users": ("id", "email", "name", "role", "created_at", "deleted_at"),
    "api_keys": (
        *("id", "user_id", "name", "priority", "is_active"),
        *("rate_limit", "token_limit", "monthly_token_limit", "max_in_flight"),
        *("created_at", "expires_at", "last_used_at", "deleted_at"),
    ),
    "usage_hourly": (
        *("api_key_id", "hour", "model", "user_id", "requests", "succeeded", "duration_ms"),
        *("prompt_tokens", "completion_tokens", "cached_tokens"),
    ),
}
#: Errors of the driver if our role may not create roles, or if the database has no tables yet.
_NOT_ALLOWED = (psycopg2.ProgrammingError, psycopg2.InternalError)
#: Limits of the load that dashboards may cause.
CONNECTIONS = 10
STATEMENT_SECONDS = 15


def create_grafana_role(connection: Connection, *, password: str) -> None:
    """Create the role, or update an existing one.

    The role of the connection must have the right to create roles, and must own the tables.

    Args:
        password: sent as a hash, so that no log of statements reveals it.

    Raises:
        LauncherError: our role may not create roles, or there are no tables yet.
    """
    try:
        _make(connection, password)
    except DBAPIError as error:
        if isinstance(error.orig, _NOT_ALLOWED):
            raise LauncherError(f"cannot make the role: {error.orig}".strip()) from None
        raise


def _make(connection: Connection, password: str) -> None:
    run = connection.exec_driver_sql
    if run("select from pg_roles where rolname = %s", (ROLE,)).first() is None:
        run(f"create role {ROLE}")
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg2.extensions.connection)
    verifier = psycopg2.extensions.encrypt_password(password, ROLE, driver, "scram-sha-256")
    run(
        f"alter role {ROLE} with login nocreatedb nocreaterole noinherit"
        f" connection limit {CONNECTIONS} password %s",
        (verifier,),
    )
    run(f"alter role {ROLE} set default_transaction_read_only = on")
    run(f"alter role {ROLE} set statement_timeout = '{STATEMENT_SECONDS}s'")
    run(f"alter role {ROLE} set idle_in_transaction_session_timeout = '{STATEMENT_SECONDS}s'")
    run(f"revoke all on all tables in schema public from {ROLE}")
    for table, columns in READABLE.items():
        run(f"grant select ({', '.join(columns)}) on {table} to {ROLE}")
