"""Alembic's environment. The connection is handed in by `migrations.run`."""

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
        # What one has done is kept when the next does not get a lock.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
