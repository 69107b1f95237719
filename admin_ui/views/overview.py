"""The first page: who uses the service, how much, and whether it is well."""

from __future__ import annotations

import redis
from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from admin_ui.page import database
from admin_ui.services import services
from core.queue import QueueName
from core.worker_registry import WorkerStatus
from models.base import utc_now
from models.overview import read_overview

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
def show() -> ResponseReturnValue:
    overview = read_overview(database(), utc_now())
    workers, waiting = _workers_and_line()
    return render_template("overview.html", overview=overview, workers=workers, waiting=waiting)


def _workers_and_line() -> tuple[list[WorkerStatus] | None, dict[str, int] | None]:
    """Return what Redis knows, or `None` for both while it is away: the page still works."""
    try:
        waiting = {queue.value: services().queue.length(queue) for queue in QueueName}
        return services().workers.alive(), waiting
    except redis.RedisError:
        return None, None
