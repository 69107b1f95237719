"""The variables by which a shell changes how PostgreSQL's programs and its library connect."""

from __future__ import annotations

from collections.abc import MutableMapping

from core.config.settings import EMBEDDED_DATABASE

#: Ours: it names the directory of PostgreSQL's programs.
KEPT = "PG_BIN"


def forget_libpq_variables(environment: MutableMapping[str, str]) -> None:
    """Drop what PostgreSQL reads of an environment, for those who use the embedded one.

    A `PGSSLMODE`, `PGSERVICE` or `PGOPTIONS` is meant for another server, and each of them can keep
    us from our own.
    """
    for name in [name for name in environment if name.startswith("PG") and name != KEPT]:
        del environment[name]


def uses_embedded(environment: MutableMapping[str, str]) -> bool:
    """Say whether `DATABASE_URL` names the database of an embedded PostgreSQL."""
    return EMBEDDED_DATABASE in environment.get("DATABASE_URL", "")
