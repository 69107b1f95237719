"""The rows of *System Performance* about PostgreSQL, Redis and NGINX."""

from __future__ import annotations

from cli.monitoring.settings import MonitoringSettings
from docker.grafana.dashboards.board import Row
from docker.grafana.dashboards.panel import Limit, lines
from docker.grafana.dashboards.query import Query, per_second

_ALERTS = MonitoringSettings.from_environment({})
#: Without the databases that PostgreSQL itself creates.
_DATABASES = '{datname!~"template.*|postgres"}'

SERVER_ROWS = (
    Row(
        "PostgreSQL",
        [
            lines(
                "Connections",
                "Share of `max_connections`.",
                "percentunit",
                Query(
                    "sum by (instance) (pg_stat_activity_count)"
                    " / max by (instance) (pg_settings_max_connections)",
                    "{{instance}}",
                ),
                span=6,
                limit=Limit(_ALERTS.alert_connections_ratio, "DatabaseConnections"),
                max_value=1,
            ),
            lines(
                "Transactions",
                "Of our databases.",
                "ops",
                per_second(
                    f"pg_stat_database_xact_commit{_DATABASES}",
                    "datname",
                    "{{datname}} committed",
                ),
                per_second(
                    f"pg_stat_database_xact_rollback{_DATABASES}",
                    "datname",
                    "{{datname}} rolled back",
                ),
                span=6,
            ),
            lines(
                "Reads from memory",
                "Share of pages that were read without a disk.",
                "percentunit",
                Query(
                    "sum by (datname) (rate(pg_stat_database_blks_hit"
                    f"{_DATABASES}[$__rate_interval]))"
                    " / sum by (datname) (rate(pg_stat_database_blks_hit"
                    f"{_DATABASES}[$__rate_interval])"
                    " + rate(pg_stat_database_blks_read"
                    f"{_DATABASES}[$__rate_interval]))",
                    "{{datname}}",
                ),
                span=6,
                max_value=1,
            ),
            lines(
                "Size of databases",
                "On disk.",
                "bytes",
                Query(
                    f"max by (datname) (pg_database_size_bytes{_DATABASES})",
                    "{{datname}}",
                ),
                span=6,
            ),
        ],
    ),
    Row(
        "Redis and NGINX",
        [
            lines(
                "Memory of Redis",
                "Used; at `maxmemory`, the API refuses new work.",
                "bytes",
                Query("redis_memory_used_bytes", "{{instance}} used"),
                Query("redis_memory_max_bytes > 0", "{{instance}} at most"),
                span=6,
            ),
            lines(
                "Commands of Redis",
                "Processed.",
                "ops",
                per_second("redis_commands_processed_total", "instance", "{{instance}}"),
                span=6,
            ),
            lines(
                "Clients of Redis",
                "Connected, and blocked.",
                "none",
                Query("redis_connected_clients", "{{instance}} connected"),
                Query("redis_blocked_clients", "{{instance}} waiting"),
                span=6,
            ),
            lines(
                "NGINX",
                "Requests a second and open connections.",
                "none",
                per_second("nginx_http_requests_total", "instance", "{{instance}} requests"),
                Query("nginx_connections_active", "{{instance}} connections"),
                span=6,
            ),
        ],
    ),
)
