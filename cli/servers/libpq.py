"""The environment variables that change how libpq and PostgreSQL's programs connect."""

from __future__ import annotations

from collections.abc import MutableMapping

from core.config.settings import EMBEDDED_DATABASE

#: Not libpq's but ours: the directory of PostgreSQL's programs.
OWN_VARIABLE = "PG_BIN"


def remove_libpq_variables(environment: MutableMapping[str, str]) -> None:
    """Remove libpq's variables from an environment that uses the embedded PostgreSQL.

    `PGSSLMODE`, `PGSERVICE` or `PGOPTIONS` are meant for another server. Each of them can prevent
    a connection to the embedded one.
    """
    for name in [name for name in environment if name.startswith("PG") and name != OWN_VARIABLE]:
        del environment[name]


def uses_embedded(environment: MutableMapping[str, str]) -> bool:
    """Return whether `DATABASE_URL` names the database of an embedded PostgreSQL."""
    return EMBEDDED_DATABASE in environment.get("DATABASE_URL", "")
