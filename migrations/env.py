"""Alembic's environment. `migrations.run` passes the connection."""

from __future__ import annotations

from alembic import context

from models.schema import metadata


def run() -> None:
    """Migrate over the connection that `migrations.run` opened."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        # Each finished migration stays if the next one gets no lock.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
