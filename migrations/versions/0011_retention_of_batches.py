"""Store the progress of retention of batches, and index those that it may delete.

This is not in the migration of jobs, to avoid a deadlock: an upload writes the batch first and then
its jobs, while that migration would lock the jobs first and then the batches.

The columns and the index may exist already, from an interrupted run or from a 0010 that did both.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = ("texts_deleted_at", "lines_deleted_at")
_INDEX = "ix_batches_finished_at"


def upgrade() -> None:
    for column in _COLUMNS:
        deleted = sa.Column(column, sa.DateTime(timezone=True), nullable=True)
        op.add_column("batches", deleted, if_not_exists=True)
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, table_name="batches", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _INDEX,
            "batches",
            ["finished_at"],
            postgresql_where=sa.text("finished_at is not null"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_INDEX, table_name="batches")
    for column in _COLUMNS:
        op.drop_column("batches", column)
