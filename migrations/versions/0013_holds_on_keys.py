"""Store admins' holds on keys, and the usage that a key inherits from deleted keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLE = "api_keys"


def upgrade() -> None:
    op.add_column(
        _TABLE, sa.Column("holds", JSONB(), nullable=False, server_default=sa.text("'{}'"))
    )
    op.add_column(
        _TABLE,
        sa.Column("carried_tokens", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )
    op.add_column(_TABLE, sa.Column("carried_month", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        _TABLE,
        sa.Column("is_taken_over", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )


def downgrade() -> None:
    for column in ("is_taken_over", "carried_month", "carried_tokens", "holds"):
        op.drop_column(_TABLE, column)
