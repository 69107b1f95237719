"""Engine: queue time, generation speed and utilisation of workers."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import QueryVariable
from grafana_foundation_sdk.models.dashboard import VariableRefresh

from cli.monitoring.settings import MonitoringSettings
from docker.grafana.dashboards.board import Board, Row
from docker.grafana.dashboards.panel import Limit, figure, lines
from docker.grafana.dashboards.query import PROMETHEUS, Query, mean, per_second, quantiles

_ALERTS = MonitoringSettings.from_environment({})
_WORKER = 'instance=~"$worker"'
_INTERACTIVE = f'{{queue="interactive", {_WORKER}}}'
_ALL = f"{{{_WORKER}}}"
_PACE = Limit(_ALERTS.alert_tokens_per_second, "SlowGeneration", is_floor=True)


def _workers() -> QueryVariable:
    variable = QueryVariable("worker").label("Worker").datasource(PROMETHEUS)
    variable.query({"query": "label_values(bountycoder_worker_ready, instance)", "refId": "A"})
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.include_all(True).all_value(".*").multi(True)


def _by_worker(metric: str) -> Query:
    return Query(f"sum by (instance) ({metric}{_ALL})", "{{instance}}")


BOARD = Board(
    uid="engine",
    title="Engine",
    description="Queue time, generation speed and utilisation of workers.",
    variables=[_workers()],
    rows=[
        Row(
            "Now",
            [
                figure(
                    "Workers that take jobs",
                    "As reported by the workers.",
                    "none",
                    Query(f"sum(bountycoder_worker_ready{_ALL})"),
                    limit=Limit(1, "NoWorkers", is_floor=True),
                ),
                figure(
                    "Tokens generated",
                    "A second, as they are drawn.",
                    "short",
                    per_second(f"bountycoder_engine_generated_tokens_total{_ALL}"),
                ),
                figure(
                    "Pace of the slowest tenth",
                    "Tokens a second of each interactive stream.",
                    "short",
                    quantiles(f"bountycoder_request_tokens_per_second{_INTERACTIVE}", 0.1)[0],
                    limit=_PACE,
                ),
                figure(
                    "Sequences running",
                    "They share the forward passes.",
                    "none",
                    Query(f"sum(bountycoder_num_requests_running{_ALL})"),
                ),
                figure(
                    "Sequences waiting",
                    "In the engines.",
                    "none",
                    Query(f"sum(bountycoder_num_requests_waiting{_ALL})"),
                ),
                figure(
                    "Attention cache used",
                    "Of the fullest worker.",
                    "percentunit",
                    Query(f"max(bountycoder_kv_cache_usage_ratio{_ALL})"),
                ),
            ],
        ),
        Row(
            "Interactive jobs",
            [
                lines(
                    "Queue time",
                    "From the request to the start of the job.",
                    "s",
                    quantiles(
                        f"bountycoder_request_queue_time_seconds{_INTERACTIVE}", 0.5, 0.95, 0.99
                    ),
                    span=6,
                ),
                lines(
                    "Time to first token",
                    "From the request.",
                    "s",
                    quantiles(
                        f"bountycoder_time_to_first_token_seconds{_INTERACTIVE}", 0.5, 0.95, 0.99
                    ),
                    span=6,
                    limit=Limit(_ALERTS.alert_first_token_seconds, "HighTimeToFirstToken"),
                ),
                lines(
                    "Time per output token",
                    "Mean of each job, after its first token.",
                    "s",
                    quantiles(
                        f"bountycoder_time_per_output_token_seconds{_INTERACTIVE}", 0.5, 0.95, 0.99
                    ),
                    span=6,
                ),
                lines(
                    "Tokens a second of each stream",
                    "The service promises at least 30.",
                    "short",
                    quantiles(
                        f"bountycoder_request_tokens_per_second{_INTERACTIVE}", 0.1, 0.5, 0.9
                    ),
                    span=6,
                    limit=_PACE,
                ),
                lines(
                    "Whole time of jobs",
                    "From the request, or a batch line's release, to the end: 95th percentile.",
                    "s",
                    Query(
                        "histogram_quantile(0.95, sum by (le, queue) (rate("
                        f"bountycoder_e2e_request_latency_seconds_bucket{_ALL}"
                        "[$__rate_interval])))",
                        "{{queue}}",
                    ),
                    span=6,
                ),
                lines(
                    "Time in the engine",
                    "From start to end: 95th percentile.",
                    "s",
                    Query(
                        "histogram_quantile(0.95, sum by (le, queue) (rate("
                        f"bountycoder_request_inference_time_seconds_bucket{_ALL}"
                        "[$__rate_interval])))",
                        "{{queue}}",
                    ),
                    span=6,
                ),
                lines(
                    "Length of prompts",
                    "Tokens.",
                    "short",
                    quantiles(f"bountycoder_request_prompt_tokens{_ALL}", 0.5, 0.95),
                    span=6,
                ),
                lines(
                    "Length of completions",
                    "Tokens.",
                    "short",
                    quantiles(f"bountycoder_request_generation_tokens{_ALL}", 0.5, 0.95),
                    span=6,
                ),
            ],
        ),
        Row(
            "Utilisation of workers",
            [
                lines(
                    "Sequences running",
                    "They share the forward passes.",
                    "none",
                    _by_worker("bountycoder_num_requests_running"),
                    span=6,
                ),
                lines(
                    "Sequences waiting",
                    "In the engine.",
                    "none",
                    _by_worker("bountycoder_num_requests_waiting"),
                    span=6,
                ),
                lines(
                    "Jobs held",
                    "Taken from the queue and not ended.",
                    "none",
                    _by_worker("bountycoder_jobs_held"),
                    span=6,
                ),
                lines(
                    "Attention cache used",
                    "Share of its blocks.",
                    "percentunit",
                    Query(
                        f"max by (instance) (bountycoder_kv_cache_usage_ratio{_ALL})",
                        "{{instance}}",
                    ),
                    span=6,
                    max_value=1,
                ),
                lines(
                    "Blocks of the cache",
                    "In use, and in total.",
                    "none",
                    Query(f"sum(bountycoder_kv_cache_blocks_used{_ALL})", "in use"),
                    Query(f"sum(bountycoder_kv_cache_blocks{_ALL})", "all"),
                    span=8,
                ),
                lines(
                    "Prompt tokens from the prefix cache",
                    "Share of all prompt tokens.",
                    "percentunit",
                    Query(
                        f"sum(rate(bountycoder_cached_prompt_tokens_total{_ALL}[$__rate_interval]))"
                        f" / sum(rate(bountycoder_prompt_tokens_total{_ALL}[$__rate_interval]))",
                        "saved",
                    ),
                    span=8,
                    max_value=1,
                ),
                lines(
                    "Tokens drawn",
                    "A second.",
                    "short",
                    per_second(
                        f"bountycoder_engine_generated_tokens_total{_ALL}",
                        "instance",
                        "{{instance}}",
                    ),
                    span=8,
                    is_stacked=True,
                ),
            ],
        ),
        Row(
            "Forward passes",
            [
                lines(
                    "Time of a pass",
                    "With sampling and delivery.",
                    "s",
                    quantiles(f"bountycoder_engine_step_seconds{_ALL}", 0.5, 0.95, 0.99),
                    span=6,
                ),
                lines(
                    "Batch size",
                    "Mean number of sequences that share a pass.",
                    "short",
                    mean(f"bountycoder_engine_step_sequences{_ALL}", "instance", "{{instance}}"),
                    span=6,
                ),
                lines(
                    "Tokens of a pass",
                    "Mean number, prompts included.",
                    "short",
                    mean(f"bountycoder_engine_step_tokens{_ALL}", "instance", "{{instance}}"),
                    span=6,
                ),
                lines(
                    "Passes",
                    "A second.",
                    "ops",
                    per_second(f"bountycoder_engine_steps_total{_ALL}", "instance", "{{instance}}"),
                    span=6,
                ),
            ],
        ),
        Row(
            "Restarts",
            [
                lines(
                    "Restarts of workers",
                    "Within the last quarter of an hour.",
                    "none",
                    Query(
                        "changes((max by (instance) (process_start_time_seconds"
                        f'{{job="bountycoder-worker", {_WORKER}}}))[15m:])',
                        "{{instance}}",
                    ),
                    span=12,
                    limit=Limit(_ALERTS.alert_worker_restarts, "WorkerRestarting"),
                ),
                lines(
                    "Restarts of the engine's loop",
                    "Within the last quarter of an hour.",
                    "none",
                    Query(
                        "max by (instance) "
                        f"(increase(bountycoder_engine_restarts_total{_ALL}[15m]))",
                        "{{instance}}",
                    ),
                    span=12,
                    limit=Limit(_ALERTS.alert_engine_restarts + 1, "EngineRestarting"),
                ),
            ],
        ),
    ],
)
