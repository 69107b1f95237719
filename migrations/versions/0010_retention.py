"""Store the progress of retention of jobs, and index the jobs that it may delete.

Adding a column without a default takes no time, for any size of the table. The index is built while
the service runs. The migration first drops an index that an interrupted run left; in that case the
table and the column exist already.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_finished_at"


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
    deleted = sa.Column("texts_deleted_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("jobs", deleted, if_not_exists=True)
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, table_name="jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _INDEX,
            "jobs",
            ["finished_at"],
            postgresql_where=sa.text("batch_id is null and finished_at is not null"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_INDEX, table_name="jobs")
    op.drop_column("jobs", "texts_deleted_at")
    op.drop_table("retention_mark")
