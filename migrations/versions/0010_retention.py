"""what retention has deleted, and the indexes that find what it may delete.

Columns without a default are added at once, whatever the table's size; the indexes are built beside
the running service, and what an interrupted run left of one is dropped first; the rest is there
already then.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("jobs", "texts_deleted_at"),
    ("batches", "texts_deleted_at"),
    ("batches", "lines_deleted_at"),
)
_INDEXES = (
    ("ix_jobs_finished_at", "jobs", "batch_id is null and finished_at is not null"),
    ("ix_batches_finished_at", "batches", "finished_at is not null"),
)


def upgrade() -> None:
    op.create_table(
        "retention_mark",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("texts_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("jobs_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_retention_mark_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_mark")),
        if_not_exists=True,
    )
    for table, column in _COLUMNS:
        made = sa.Column(column, sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, made, if_not_exists=True)
    with op.get_context().autocommit_block():
        for name, table, condition in _INDEXES:
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                table,
                ["finished_at"],
                postgresql_where=sa.text(condition),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    for name, table, _ in _INDEXES:
        op.drop_index(name, table_name=table)
    for table, column in _COLUMNS:
        op.drop_column(table, column)
    op.drop_table("retention_mark")
