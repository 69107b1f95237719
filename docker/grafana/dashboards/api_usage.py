"""API Usage: requests, latency, errors, refusals and generated tokens."""

from __future__ import annotations

from cli.monitoring.settings import MonitoringSettings
from docker.grafana.dashboards.board import Board, Row
from docker.grafana.dashboards.panel import Limit, figure, lines
from docker.grafana.dashboards.query import Query, per_second, quantiles

_ALERTS = MonitoringSettings.from_environment({})
_SECONDS = "bountycoder_http_request_duration_seconds"
_COUNT = f"{_SECONDS}_count"
#: Calls of customers, without the health checks of load balancers.
_CALLS = 'job="bountycoder-api", route!~"/healthz|/readyz"'
#: Calls that neither generate nor carry files.
_QUICK = (
    'job="bountycoder-api", '
    'route!~"/healthz|/readyz|/api/llm/generate|/api/llm/jobs/<job_id>.*|/api/llm/batches.*|/v1/.*"'
)
_LIMITS = "rate_limit_exceeded|token_limit_exceeded|too_many_in_flight|monthly_quota_exceeded"
_FAULTS = Limit(_ALERTS.alert_error_ratio, "HighErrorRate")


def _share(status: str, legend: str = "") -> Query:
    some = f'sum(rate({_COUNT}{{{_CALLS}, status=~"{status}"}}[$__rate_interval]))'
    # Without any such response there is no series; show 0 instead of "no data".
    return Query(
        f"({some} or vector(0)) / sum(rate({_COUNT}{{{_CALLS}}}[$__rate_interval]))", legend
    )


BOARD = Board(
    uid="api-usage",
    title="API Usage",
    description="Requests to the API, their latency, errors and refusals.",
    rows=[
        Row(
            "Now",
            [
                figure(
                    "Requests",
                    "Responses a second, without health checks.",
                    "reqps",
                    per_second(f"{_COUNT}{{{_CALLS}}}"),
                ),
                figure(
                    "Server errors",
                    "Share of responses with 5xx.",
                    "percentunit",
                    _share("5.."),
                    limit=_FAULTS,
                ),
                figure(
                    "Open requests",
                    "That wait, are worked on or stream.",
                    "none",
                    Query('sum(bountycoder_http_requests_in_progress{job="bountycoder-api"})'),
                ),
                figure(
                    "Tokens generated",
                    "A second, by all workers.",
                    "short",
                    per_second("bountycoder_engine_generated_tokens_total"),
                ),
                figure(
                    "Jobs in the queue",
                    "Ready to run, not yet taken by a worker.",
                    "none",
                    Query("sum(max by (queue) (bountycoder_queue_jobs))"),
                ),
                figure(
                    "Oldest interactive job",
                    "Its waiting time.",
                    "s",
                    Query('max(bountycoder_queue_oldest_seconds{queue="interactive"})'),
                    limit=Limit(_ALERTS.alert_queue_seconds, "QueueOld"),
                ),
            ],
        ),
        Row(
            "Request volume",
            [
                lines(
                    "Responses by status",
                    "A second.",
                    "reqps",
                    per_second(f"{_COUNT}{{{_CALLS}}}", "status", "{{status}}"),
                    is_stacked=True,
                ),
                lines(
                    "Responses by call",
                    "The ten most frequent calls.",
                    "reqps",
                    Query(
                        f"topk(10, sum by (method, route) (rate({_COUNT}{{{_CALLS}}}"
                        "[$__rate_interval])))",
                        "{{method}} {{route}}",
                    ),
                ),
                lines(
                    "Open requests",
                    "That wait, are worked on or stream.",
                    "none",
                    Query(
                        "sum by (job) (bountycoder_http_requests_in_progress)",
                        "{{job}}",
                    ),
                ),
            ],
        ),
        Row(
            "Latency",
            [
                lines(
                    "Time of calls that do not generate",
                    "Until the response's headers.",
                    "s",
                    quantiles(f"{_SECONDS}{{{_QUICK}}}", 0.5, 0.95, 0.99),
                    limit=Limit(_ALERTS.alert_api_seconds, "HighApiLatency"),
                ),
                lines(
                    "Time of synchronous generations",
                    "`POST /api/llm/generate`; streams until their first byte.",
                    "s",
                    quantiles(
                        f'{_SECONDS}{{job="bountycoder-api", route="/api/llm/generate"}}',
                        *(0.5, 0.95, 0.99),
                    ),
                ),
                lines(
                    "Time by call",
                    "95th percentile of the ten slowest calls.",
                    "s",
                    Query(
                        "topk(10, histogram_quantile(0.95, sum by (le, method, route) (rate("
                        f"{_SECONDS}_bucket{{{_CALLS}}}[$__rate_interval]))))",
                        "{{method}} {{route}}",
                    ),
                ),
            ],
        ),
        Row(
            "Errors and refusals",
            [
                lines(
                    "Error rate",
                    "Share of all responses.",
                    "percentunit",
                    _share("5..", "5xx: our faults"),
                    _share("4..", "4xx: refused"),
                    limit=_FAULTS,
                    span=6,
                ),
                lines(
                    "Errors by type",
                    "By their stable codes.",
                    "reqps",
                    per_second("bountycoder_http_errors_total", "code", "{{code}}"),
                    is_stacked=True,
                    span=6,
                ),
                lines(
                    "Refused by limits",
                    "Limits of keys and of other callers.",
                    "reqps",
                    per_second(
                        f'bountycoder_http_errors_total{{code=~"{_LIMITS}"}}', "code", "{{code}}"
                    ),
                    per_second(
                        'bountycoder_http_errors_total{code=~"too_many_attempts|too_many_streams"}',
                        *("code", "{{code}}"),
                    ),
                    limit=Limit(_ALERTS.alert_refusals_per_second, "RateLimitViolations"),
                    span=6,
                ),
                lines(
                    "Unhandled exceptions",
                    "Each has a traceback in the log.",
                    "reqps",
                    per_second(
                        'bountycoder_http_errors_total{code="internal_error"}', legend="API"
                    ),
                    per_second("bountycoder_http_request_exceptions_total", legend="admin UI"),
                    span=6,
                ),
            ],
        ),
        Row(
            "Jobs and tokens",
            [
                lines(
                    "Tokens",
                    "Of jobs that ended.",
                    "short",
                    per_second("bountycoder_generation_tokens_total", legend="generated"),
                    per_second("bountycoder_prompt_tokens_total", legend="of prompts"),
                    per_second("bountycoder_cached_prompt_tokens_total", legend="out of the cache"),
                    span=6,
                ),
                lines(
                    "Tokens a second of each stream",
                    "The service promises at least 30.",
                    "short",
                    quantiles(
                        'bountycoder_request_tokens_per_second{queue="interactive"}', 0.1, 0.5, 0.9
                    ),
                    limit=Limit(_ALERTS.alert_tokens_per_second, "SlowGeneration", is_floor=True),
                    span=6,
                ),
                lines(
                    "Jobs ended",
                    "A second, by queue and how they ended.",
                    "ops",
                    per_second("bountycoder_jobs_total", "queue, state", "{{queue}} {{state}}"),
                    span=6,
                ),
                lines(
                    "Jobs in the queue",
                    "Ready to run, not yet taken by a worker.",
                    "none",
                    Query("max by (queue) (bountycoder_queue_jobs)", "{{queue}}"),
                    span=6,
                ),
            ],
        ),
        Row(
            "Batches and webhooks",
            [
                lines(
                    "Oldest job in the queue",
                    "Its waiting time.",
                    "s",
                    Query("max by (queue) (bountycoder_queue_oldest_seconds)", "{{queue}}"),
                    limit=Limit(_ALERTS.alert_queue_seconds, "QueueOld"),
                    span=6,
                ),
                lines(
                    "Accepted batches",
                    "Batches and their lines, a second.",
                    "ops",
                    per_second("bountycoder_batches_accepted_total", legend="batches"),
                    per_second("bountycoder_batch_lines_accepted_total", legend="lines"),
                    span=6,
                ),
                lines(
                    "Batches that have not ended",
                    "By state, and their open lines.",
                    "none",
                    Query("max by (state) (bountycoder_batches_open)", "{{state}}"),
                    Query("max(bountycoder_batch_lines_open)", "lines"),
                    span=6,
                ),
                lines(
                    "Webhooks",
                    "Attempts a second, and messages that wait.",
                    "none",
                    per_second("bountycoder_webhook_attempts_total", "outcome", "{{outcome}}"),
                    Query("max(bountycoder_webhooks_pending)", "waiting"),
                    span=6,
                ),
            ],
        ),
    ],
)
