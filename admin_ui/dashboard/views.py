"""The dashboard: state of the service, usage and recent activity.

Customers see their own usage, and only whether the service is ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from flask import Blueprint, abort, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from admin_ui.activity.sentences import DescribedActivity, describe
from admin_ui.services import services
from admin_ui.web.access import owner_filter, signed_in, viewer
from admin_ui.web.page import database, present_time
from admin_ui.widgets.chart_data import Chart, chart_of_minutes, chart_of_sums
from core.queueing.names import QueueName
from core.queueing.workers import WorkerStatus
from models.monitoring.service_counts import count_held_lines
from models.pages.activity import ActivityFilter, list_activity
from models.pages.dashboard import (
    SeriesStep,
    read_last_hour,
    read_periods,
    read_series,
    read_totals,
)
from models.usage.ranges import DAY, HOUR

blueprint = Blueprint("dashboard", __name__)

RECENT_ENTRIES = 5
#: Time ranges of the charts; the first is the default.
RANGES = {"day": "24 hours", "month": "30 days", "hour": "Last hour"}
CHARTS = {
    Chart.TOKENS: "Tokens",
    Chart.REQUESTS: "Requests",
    Chart.TIMES: "Response time",
}


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state of the service according to Redis.

    Attributes:
        waiting: jobs in each queue.
    """

    workers: list[WorkerStatus]
    waiting: dict[str, int]

    @property
    def ready(self) -> int:
        return sum(worker.is_ready for worker in self.workers)

    @property
    def has_gpus(self) -> bool:
        return any(worker.gpus for worker in self.workers)


@blueprint.get("/")
@signed_in
def show() -> ResponseReturnValue:
    return render_template(
        "dashboard/show.html",
        **_figures(),
        recent=_recent() if viewer().is_admin else None,
        charts=CHARTS,
        ranges=RANGES,
        over=_range(),
    )


@blueprint.get("/live")
@signed_in
def live() -> ResponseReturnValue:
    """Show the part of the page that is refreshed every few seconds."""
    return render_template("dashboard/live.html", **_figures())


@blueprint.get("/series/<chart>")
@signed_in
def series(chart: str) -> ResponseReturnValue:
    """Return the series of one chart."""
    if chart not in CHARTS:
        abort(404)
    over, now, user_id = _range(), present_time(), owner_filter()
    if over == "hour":
        last_hour = read_last_hour(database(), now, user_id=user_id)
        return jsonify(chart_of_minutes(Chart(chart), last_hour.minutes))
    step, duration, count = {
        "day": (SeriesStep.HOUR, HOUR, 24),
        "month": (SeriesStep.DAY, DAY, 30),
    }[over]
    rows = read_series(database(), now, step, count=count, user_id=user_id)
    return jsonify(chart_of_sums(Chart(chart), rows, duration))


def _figures() -> dict[str, Any]:
    now, user_id = present_time(), owner_filter()
    return {
        "totals": read_totals(database(), now, user_id=user_id),
        "periods": read_periods(database(), now, user_id=user_id),
        "last_hour": read_last_hour(database(), now, user_id=user_id),
        "service": _service_state(),
        "held": count_held_lines(database()) if viewer().is_admin else 0,
    }


def _service_state() -> ServiceState | None:
    """Return the state of the service, or `None` while Redis is away."""
    try:
        waiting = {queue.value: services().queue.length(queue) for queue in QueueName}
        return ServiceState(services().workers.alive(), waiting)
    except redis.RedisError:
        return None


def _recent() -> list[DescribedActivity]:
    entries = list_activity(database(), ActivityFilter(), limit=RECENT_ENTRIES)
    return describe(database(), entries.rows)


def _range() -> str:
    over = request.args.get("over", "")
    return over if over in RANGES else next(iter(RANGES))
