"""Add roll-ups of usage by day and month, and indexes for the lists of the admin pages.

Indexes of large tables are built while the service runs, each in its own transaction. The migration
first drops an index that an interrupted run left. In that case the tables exist already.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_UNSUCCESSFUL = "state in ('failed', 'cancelled', 'expired')"
_INDEXES = (
    ("ix_jobs_unsuccessful", "jobs", ["state", "id"], f"batch_id is null and {_UNSUCCESSFUL}"),
    (
        "ix_jobs_user_id_unsuccessful",
        "jobs",
        ["user_id", "state", "id"],
        f"batch_id is null and {_UNSUCCESSFUL}",
    ),
    (
        "ix_jobs_batch_id_unsuccessful",
        "jobs",
        ["batch_id", "state", "line"],
        f"batch_id is not null and {_UNSUCCESSFUL}",
    ),
    ("ix_audit_log_address_id", "audit_log", ["address", "id"], None),
)


def upgrade() -> None:
    for name, is_by_key in (
        ("usage_daily", True),
        ("usage_monthly", True),
        ("usage_total_hourly", False),
        ("usage_total_daily", False),
    ):
        _create_sums(name, is_by_key=is_by_key)
    op.create_table(
        "usage_closing",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_usage_closing_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_closing")),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        for name, table, columns, condition in _INDEXES:
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                table,
                columns,
                postgresql_where=sa.text(condition) if condition else None,
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    for name, table, _, _ in _INDEXES:
        op.drop_index(name, table_name=table)
    for table in (
        "usage_closing",
        "usage_total_daily",
        "usage_total_hourly",
        "usage_monthly",
        "usage_daily",
    ):
        op.drop_table(table)


def _create_sums(name: str, *, is_by_key: bool) -> None:
    of_key = [sa.Column("api_key_id", sa.UUID(), nullable=False)] if is_by_key else []
    of_user = [sa.Column("user_id", sa.UUID(), nullable=False)] if is_by_key else []
    counts = (
        "requests",
        "succeeded",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "duration_ms",
    )
    key = (["api_key_id"] if is_by_key else []) + ["begins_at", "model"]
    op.create_table(
        name,
        *of_key,
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        *of_user,
        *(sa.Column(count, sa.BigInteger(), nullable=False) for count in counts),
        sa.Column(
            "duration_counts",
            sa.ARRAY(sa.BigInteger()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}")),
        if_not_exists=True,
    )
    if is_by_key:
        op.create_index(
            f"ix_{name}_begins_at",
            name,
            ["begins_at"],
            postgresql_include=["api_key_id", "user_id", "prompt_tokens", "completion_tokens"],
            if_not_exists=True,
        )
        op.create_index(
            f"ix_{name}_user_id_begins_at", name, ["user_id", "begins_at"], if_not_exists=True
        )
