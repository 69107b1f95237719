"""Add batches and their files, and their columns in jobs and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_batches()
    _create_files()
    _extend_jobs()
    op.add_column("webhook_deliveries", sa.Column("batch_id", sa.UUID(), nullable=True))
    op.alter_column("webhook_deliveries", "job_id", nullable=True)
    op.create_check_constraint(
        op.f("ck_webhook_deliveries_about"),
        "webhook_deliveries",
        "(job_id is null) <> (batch_id is null)",
    )
    op.create_index("ix_webhook_deliveries_batch_id", "webhook_deliveries", ["batch_id"])


def downgrade() -> None:
    op.execute("delete from webhook_deliveries where job_id is null")
    op.drop_index("ix_webhook_deliveries_batch_id", table_name="webhook_deliveries")
    op.drop_constraint(op.f("ck_webhook_deliveries_about"), "webhook_deliveries", type_="check")
    op.drop_column("webhook_deliveries", "batch_id")
    op.alter_column("webhook_deliveries", "job_id", nullable=False)
    op.execute("delete from jobs where batch_id is not null")
    for index in ("released", "held", "batch_id_line", "queued", "api_key_id_id", "user_id_id"):
        op.drop_index(f"ix_jobs_{index}", table_name="jobs")
    op.drop_constraint(op.f("ck_jobs_line"), "jobs", type_="check")
    for column in ("released_at", "is_held", "custom_id", "line", "batch_id"):
        op.drop_column("jobs", column)
    op.create_index("ix_jobs_user_id_id", "jobs", ["user_id", "id"])
    op.create_index("ix_jobs_api_key_id_id", "jobs", ["api_key_id", "id"])
    op.create_index("ix_jobs_queued", "jobs", ["id"], postgresql_where=sa.text("state = 'queued'"))
    op.drop_table("file_pieces")
    op.drop_table("files")
    op.drop_table("batches")


def _create_batches() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "batches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("api_key_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("endpoint", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("on_error", sa.String(length=8), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("total", "succeeded", "failed", "cancelled", "expired")
        ),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
        ),
        sa.Column("webhook_url", sa.String(length=2048), nullable=True),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("input_file_id", sa.UUID(), nullable=True),
        sa.Column("retry_of", sa.UUID(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("started_at", time, nullable=True),
        sa.Column("cancel_requested_at", time, nullable=True),
        sa.Column("finished_at", time, nullable=True),
        sa.Column("expires_at", time, nullable=False),
        sa.CheckConstraint(
            "state in ('running','cancelling','expiring','completed','cancelled','expired')",
            name=op.f("ck_batches_state"),
        ),
        sa.CheckConstraint("total > 0", name=op.f("ck_batches_total")),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name="fk_batches_api_key_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_batches_user_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_user_id_id", "batches", ["user_id", "id"])
    op.create_index(
        "ix_batches_open",
        "batches",
        ["api_key_id", "id"],
        postgresql_where=sa.text("finished_at is null"),
    )
    op.create_index(
        "ix_batches_idempotency_key",
        "batches",
        ["api_key_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key is not null"),
    )


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("api_key_id", sa.UUID(), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name="fk_files_api_key_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_files_user_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_user_id_id", "files", ["user_id", "id"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_table(
        "file_pieces",
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name="fk_file_pieces_file_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("file_id", "place", name=op.f("pk_file_pieces")),
    )


def _extend_jobs() -> None:
    for column in (
        sa.Column("batch_id", sa.UUID(), nullable=True),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("custom_id", sa.String(length=512), nullable=True),
        sa.Column("is_held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("jobs", column)
    op.create_foreign_key("fk_jobs_batch_id", "jobs", "batches", ["batch_id"], ["id"])
    op.create_check_constraint(op.f("ck_jobs_line"), "jobs", "(batch_id is null) = (line is null)")
    for index in ("queued", "api_key_id_id", "user_id_id"):
        op.drop_index(f"ix_jobs_{index}", table_name="jobs")
    for name, columns, condition, is_unique in (
        ("user_id_id", ["user_id", "id"], "batch_id is null", False),
        ("api_key_id_id", ["api_key_id", "id"], "batch_id is null", False),
        ("queued", ["id"], "state = 'queued' and not is_held", False),
        ("batch_id_line", ["batch_id", "line"], "batch_id is not null", True),
        ("held", ["batch_id", "line"], "state = 'queued' and is_held", False),
        (
            "released",
            ["batch_id", "state"],
            "batch_id is not null and not is_held and state in ('queued', 'running')",
            False,
        ),
    ):
        op.create_index(
            f"ix_jobs_{name}",
            "jobs",
            columns,
            unique=is_unique,
            postgresql_where=sa.text(condition),
        )
