from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.orm import Session

from migrations.run import downgrade, upgrade
from models.maintenance.rollup_consistency import compare_roll_ups
from models.schema import metadata
from models.usage.report import UsageGroup, list_usage
from tests.support.factories.rows import add_key
from tests.support.factories.usage import ALL, HOUR, NOON, add_usage


def test_the_migrated_schema_is_that_of_the_models(empty_database_url: str) -> None:
    upgrade(empty_database_url)

    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_downgrade_cleanly_and_upgrade_a_second_time(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    downgrade(empty_database_url, "base")

    engine = create_engine(empty_database_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]

    upgrade(empty_database_url)
    upgrade(empty_database_url)

    assert set(inspect(engine).get_table_names()) == {"alembic_version", *metadata.tables}
    engine.dispose()


def test_earlier_durations_are_counted_when_the_column_is_added(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    with Session(engine) as session, session.begin():
        keys = [add_key(session) for _ in range(2)]
        for at, ms in ((NOON, 3), (NOON, 3), (NOON, 90_000), (NOON + HOUR, 0), (NOON, 10**12)):
            add_usage(session, keys[0], at, ms=ms)
        add_usage(session, keys[1], ms=50)
    with Session(engine) as session:
        counted = list_usage(session, ALL, UsageGroup.HOUR, after=None, limit=9)

    downgrade(empty_database_url, "0003")
    upgrade(empty_database_url)

    with Session(engine) as session:
        assert list_usage(session, ALL, UsageGroup.HOUR, after=None, limit=9) == counted
        assert list(compare_roll_ups(session, since=None, until=None)) == []
        assert session.scalar(text("select count(*) from usage_hourly")) == 3
    engine.dispose()
