from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from migrations.run import downgrade, upgrade
from models.schema import metadata


def test_the_migrated_schema_is_what_the_models_say(empty_database_url: str) -> None:
    upgrade(empty_database_url)

    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_go_down_cleanly_and_up_again(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    downgrade(empty_database_url, "base")

    engine = create_engine(empty_database_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]

    upgrade(empty_database_url)
    upgrade(empty_database_url)

    assert set(inspect(engine).get_table_names()) == {"alembic_version", *metadata.tables}
    engine.dispose()
