"""Index the batch lines that did not succeed, by state and by user.

The pages list jobs of all sources, so lines need the indexes that other jobs have. They are built
while the service runs. The migration first drops an index that an interrupted run left.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_CONDITION = "batch_id is not null and state in ('failed', 'cancelled', 'expired')"
_INDEXES = (
    ("ix_jobs_lines_unsuccessful", ["state", "id"]),
    ("ix_jobs_user_id_lines_unsuccessful", ["user_id", "state", "id"]),
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns in _INDEXES:
            op.drop_index(name, table_name="jobs", if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                "jobs",
                columns,
                postgresql_where=sa.text(_CONDITION),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    for name, _ in _INDEXES:
        op.drop_index(name, table_name="jobs")
