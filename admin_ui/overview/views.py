"""The first page: how the service does, how much it is used and by whom.

Admins see all of it; customers what is theirs, and of the service only whether it is ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from flask import Blueprint, abort, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from admin_ui.activity.sentences import Event, describe
from admin_ui.services import services
from admin_ui.web.access import own_rows, signed_in, viewer
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

blueprint = Blueprint("overview", __name__)

RECENT_ENTRIES = 5
#: What the charts may be about, the default first.
TIMES = {"day": "24 hours", "month": "30 days", "hour": "Last hour"}
CHARTS = {
    Chart.TOKENS: "Tokens",
    Chart.REQUESTS: "Requests",
    Chart.TIMES: "Response time",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What Redis knows of the service.

    Attributes:
        waiting: jobs in each line.
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
        "overview/show.html",
        **_figures(),
        recent=_recent() if viewer().is_admin else None,
        charts=CHARTS,
        times=TIMES,
        over=_over(),
    )


@blueprint.get("/live")
@signed_in
def live() -> ResponseReturnValue:
    """The part of the page that is asked for again and again."""
    return render_template("overview/live.html", **_figures())


@blueprint.get("/series/<chart>")
@signed_in
def series(chart: str) -> ResponseReturnValue:
    """What one chart of the page draws."""
    if chart not in CHARTS:
        abort(404)
    over, now, user_id = _over(), present_time(), own_rows()
    if over == "hour":
        last_hour = read_last_hour(database(), now, user_id=user_id)
        return jsonify(chart_of_minutes(Chart(chart), last_hour.minutes))
    step, length, count = {
        "day": (SeriesStep.HOUR, HOUR, 24),
        "month": (SeriesStep.DAY, DAY, 30),
    }[over]
    rows = read_series(database(), now, step, count=count, user_id=user_id)
    return jsonify(chart_of_sums(Chart(chart), rows, length))


def _figures() -> dict[str, Any]:
    now, user_id = present_time(), own_rows()
    return {
        "totals": read_totals(database(), now, user_id=user_id),
        "periods": read_periods(database(), now, user_id=user_id),
        "last_hour": read_last_hour(database(), now, user_id=user_id),
        "parts": _parts(),
        "held": count_held_lines(database()) if viewer().is_admin else 0,
    }


def _parts() -> Parts | None:
    """Return what Redis knows, or `None` while it is away: the page still works."""
    try:
        waiting = {queue.value: services().queue.length(queue) for queue in QueueName}
        return Parts(services().workers.alive(), waiting)
    except redis.RedisError:
        return None


def _recent() -> list[Event]:
    entries = list_activity(database(), ActivityFilter(), limit=RECENT_ENTRIES)
    return describe(database(), entries.rows)


def _over() -> str:
    over = request.args.get("over", "")
    return over if over in TIMES else next(iter(TIMES))
