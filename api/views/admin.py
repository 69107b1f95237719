"""The calls for an admin's dashboard: figures, workers and the audit trail."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import redis
from flask import Blueprint
from flask.typing import ResponseReturnValue
from pydantic import Field
from pydantic.alias_generators import to_camel

from api.auth.authentication import authenticate_admin
from api.http.paging import read_page, serialize_page
from api.http.query import read_id_of, read_text, read_time
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import id_query, paging, query, text_query, time_query
from api.openapi.response import json_response
from api.responses.admin import ActivityPageSchema, OverviewSchema, WorkerPageSchema
from api.services import services
from core.errors import InvalidRequest
from core.ids import Prefix, format_id
from core.queueing.names import QueueName
from core.queueing.workers import WorkerStatus
from models.accounts.audit import read_target, target_kind
from models.database.base import database_now
from models.jobs.serializer import format_time
from models.monitoring.service_counts import count_held_lines
from models.pages.activity import Activity, ActivityFilter, list_activity
from models.pages.overview import Traffic, read_overview

blueprint = Blueprint("admin", __name__, url_prefix="/api/admin")

MAX_ACTION_LENGTH = 64
TargetId = Annotated[str, Field(pattern="^$|^(user|key|msg|gen|batch|file)_[0-9a-f]{32}$")]


@blueprint.get("/overview")
@described(CallerKind.ADMIN, {200: json_response(OverviewSchema, "the figures")})
def overview() -> ResponseReturnValue:
    """Return the figures of today and of this month (UTC); without Redis, `queues` is `null`."""
    with services().database.sessions() as session:
        authenticate_admin(session)
        figures = read_overview(session, database_now(session))
        held = count_held_lines(session)
    of_database: dict[str, Any] = {
        "users": figures.users,
        "keys": figures.keys,
        "activeKeys": figures.active_keys,
        "openBatches": figures.open_batches,
        "openLines": figures.open_lines,
        "heldLines": held,
        "today": _serialize_traffic(figures.today),
        "month": _serialize_traffic(figures.month),
    }
    try:
        ready = len(services().workers.ready())
        return {**of_database, "readyWorkers": ready, "queues": _queue_lengths()}
    except redis.RedisError:
        return {**of_database, "readyWorkers": None, "queues": None}


@blueprint.get("/workers")
@described(CallerKind.ADMIN, {200: json_response(WorkerPageSchema, "the workers")})
def workers() -> ResponseReturnValue:
    """Return the status of each worker, and the number of jobs in each queue."""
    with services().database.sessions() as session:
        authenticate_admin(session)
    alive = services().workers.alive()
    return {
        "data": [_serialize_worker(status) for status in alive],
        "queues": _queue_lengths(),
        "nextCursor": None,
    }


@blueprint.get("/activity")
@described(
    CallerKind.ADMIN,
    {200: json_response(ActivityPageSchema, "changes")},
    parameters=(
        *paging(Prefix.AUDIT),
        id_query("actor", Prefix.USER, "the user who made the change"),
        query("target", TargetId, "the changed user, key, webhook, job, batch or file"),
        text_query("action", MAX_ACTION_LENGTH, "the action, such as `key.create`"),
        time_query("from", "the earliest time"),
        time_query("to", "the end, which is excluded"),
    ),
)
def activity() -> ResponseReturnValue:
    """List the entries of the audit trail, newest first."""
    page = read_page(Prefix.AUDIT)
    wanted = ActivityFilter(
        actor_id=read_id_of("actor", Prefix.USER),
        target_id=_read_target(),
        action=read_text("action", max_length=MAX_ACTION_LENGTH),
        since=read_time("from"),
        until=read_time("to"),
    )
    with services().database.sessions() as session:
        authenticate_admin(session)
        entries = list_activity(session, wanted, after=page.after, limit=page.limit)
    return serialize_page(entries, page, _serialize_activity)


def _read_target() -> Any:
    text = read_text("target", max_length=64)
    if text is None:
        return None
    target = read_target(text)
    if target is None:
        raise InvalidRequest(
            "target must be the id of a user, key, webhook, job, batch or file", param="target"
        )
    return target


def _serialize_worker(status: WorkerStatus) -> dict[str, Any]:
    gpus = [_camel(asdict(gpu)) for gpu in status.gpus]
    return {**_camel(asdict(status)), "gpus": gpus}


def _camel(values: dict[str, Any]) -> dict[str, Any]:
    return {to_camel(name): value for name, value in values.items()}


def _queue_lengths() -> dict[str, int]:
    return {queue.value: services().jobs.queue.length(queue) for queue in QueueName}


def _serialize_traffic(traffic: Traffic) -> dict[str, Any]:
    return {
        "requests": traffic.requests,
        "succeeded": traffic.succeeded,
        "successRate": traffic.success_rate,
        "promptTokens": traffic.prompt_tokens,
        "completionTokens": traffic.completion_tokens,
        "totalTokens": traffic.tokens,
    }


def _serialize_activity(activity: Activity) -> dict[str, Any]:
    """Return an entry as JSON; its action says what kind of resource the target is."""
    entry = activity.entry
    kind = target_kind(entry.action)
    return {
        "id": format_id(Prefix.AUDIT, entry.id),
        "at": format_time(entry.at),
        "action": entry.action,
        "actorId": format_id(Prefix.USER, entry.actor_id) if entry.actor_id else None,
        "actorEmail": activity.actor_email,
        "targetId": format_id(kind, entry.target_id) if entry.target_id else None,
        "address": entry.address,
        "details": entry.details,
    }
