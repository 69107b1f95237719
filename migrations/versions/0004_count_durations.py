"""Count durations in buckets per hour; index the audit trail by action."""

from __future__ import annotations

import math

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_audit_log_action_id", "audit_log", ["action", "id"])
    op.add_column(
        "usage_hourly",
        sa.Column(
            "duration_counts",
            sa.ARRAY(sa.Integer()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.execute(_count_what_is_there())


def downgrade() -> None:
    op.drop_column("usage_hourly", "duration_counts")
    op.drop_index("ix_audit_log_action_id", table_name="audit_log")


def _count_what_is_there() -> sa.TextClause:
    """Return the statement that fills the new column from the rows of usage.

    It writes an array of the buckets low..high with its bounds; empty buckets are null.
    """
    return sa.text(
        """
        with counted as (
            select api_key_id, date_trunc('hour', created_at, 'UTC') as hour, model,
                   width_bucket(duration_ms, cast(:bounds as bigint[])) as bucket,
                   count(*) as n
            from usage group by 1, 2, 3, 4
        ), spans as (
            select api_key_id, hour, model, min(bucket) as low, max(bucket) as high
            from counted group by 1, 2, 3
        ), filled as (
            select s.api_key_id, s.hour, s.model, s.low, s.high,
                   string_agg(coalesce(c.n::text, 'NULL'), ',' order by b) as counts
            from spans s
            cross join lateral generate_series(s.low, s.high) as b
            left join counted c on c.api_key_id = s.api_key_id and c.hour = s.hour
                               and c.model = s.model and c.bucket = b
            group by 1, 2, 3, 4, 5
        )
        update usage_hourly h
        set duration_counts = cast(
            '[' || f.low || chr(58) || f.high || ']={' || f.counts || '}' as integer[]
        )
        from filled f
        where h.api_key_id = f.api_key_id and h.hour = f.hour and h.model = f.model
        """
    ).bindparams(bounds=_bounds())


def _bounds() -> list[int]:
    """Return the bounds of core.histogram at the time of this migration."""
    bounds = [1]
    while bounds[-1] < 30 * 24 * 3600 * 1000:
        bounds.append(max(bounds[-1] + 1, math.floor(bounds[-1] * (1.05 / 0.95))))
    return bounds
