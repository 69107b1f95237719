"""Store the time of the last backup."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "last_backup",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_last_backup_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_last_backup")),
    )


def downgrade() -> None:
    op.drop_table("last_backup")
