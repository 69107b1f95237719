"""Add rejected batches, whose file is not valid, for OpenAI's clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refused_batches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("api_key_id", sa.UUID(), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("input_file_id", sa.UUID(), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("errors", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name="fk_refused_batches_api_key_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_refused_batches_user_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_batches")),
    )
    op.create_index("ix_refused_batches_user_id_id", "refused_batches", ["user_id", "id"])
    op.create_index("ix_refused_batches_expires_at", "refused_batches", ["expires_at"])


def downgrade() -> None:
    op.drop_table("refused_batches")
