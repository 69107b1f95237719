"""The call for reports of usage and cost, in groups, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from api.auth.authentication import Caller, authenticate
from api.http.query import read_choice, read_id_of, read_number, read_text, read_time
from api.openapi.operation import CallerKind, described
from api.openapi.parameters import id_query, limit, query, text_query, time_query
from api.openapi.refusals import NOT_FOUND
from api.openapi.response import CSV, JSON, NEXT_CURSOR, ResponseSpec
from api.responses.usage import UsageReportSchema
from api.services import services
from core.calendar import hour_of
from core.config.settings import Settings
from core.errors import InvalidRequest, NotFound
from core.ids import Prefix, format_id
from core.text.csv_cells import csv_cell
from models.accounts.api_key import find_owner_of_key
from models.accounts.user import has_user
from models.database.base import Session, database_now
from models.jobs.serializer import format_time
from models.usage.cost import cost_of
from models.usage.report import (
    GroupValue,
    UsageGroup,
    UsageScope,
    UsageTotals,
    add_totals,
    list_usage,
    sum_usage,
)

blueprint = Blueprint("usage", __name__, url_prefix="/api/usage")

HOUR = timedelta(hours=1)
DEFAULT_RANGE = timedelta(days=30)
LONGEST_RANGE = timedelta(days=400)
#: A month in hours fits into one page.
DEFAULT_LIMIT = MAX_LIMIT = 1000
MAX_MODEL_LENGTH = 200

_PREFIXES = {UsageGroup.KEY: Prefix.KEY, UsageGroup.USER: Prefix.USER}


@blueprint.get("")
@described(
    CallerKind.KEY_OR_USER,
    {
        200: ResponseSpec(
            "the report, in the format that `Accept` requests",
            {JSON: UsageReportSchema, CSV: None},
            (NEXT_CURSOR,),
        )
    },
    NOT_FOUND,
    parameters=(
        time_query("from", "the begin of the first hour, a whole hour in UTC"),
        time_query("to", "the end of the last hour, which is excluded"),
        query("groupBy", UsageGroup, f"the field to group by; {UsageGroup.DAY} by default"),
        id_query("userId", Prefix.USER, "only usage of this user"),
        id_query("keyId", Prefix.KEY, "only usage of this key"),
        text_query("model", MAX_MODEL_LENGTH, "only usage of this model"),
        limit(DEFAULT_LIMIT, MAX_LIMIT),
        query("after", str, "the `nextCursor` of the previous page"),
    ),
)
def index() -> ResponseReturnValue:
    """Return the usage of whole hours from `from` to `to`, which is excluded, in groups.

    Groups are sorted by time, id or name. The `totals` of every page are those of all groups.
    """
    by = read_choice("groupBy", UsageGroup) or UsageGroup.DAY
    limit = read_number("limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
    after = _read_cursor(by)
    model = read_text("model", max_length=MAX_MODEL_LENGTH)
    with services().database.sessions() as session:
        caller = authenticate(session)
        since, until = _read_range(lambda: database_now(session))
        user_id, key_id = _read_owner(session, caller)
        wanted = UsageScope(since, until, user_id=user_id, key_id=key_id, model=model)
        groups = list_usage(session, wanted, by, after=after, limit=limit + 1)
        is_whole = after is None and len(groups) <= limit
        totals = add_totals(groups) if is_whole else sum_usage(session, wanted)
    settings = services().settings
    rows = [
        {
            "group": _serialize_group(by, sums.group),
            "name": sums.name,
            **_serialize_sums(sums, settings),
        }
        for sums in groups[:limit]
    ]
    cursor = rows[-1]["group"] if len(groups) > limit else None
    if _wants_csv():
        return _as_csv(rows, cursor)
    return {
        "from": format_time(since),
        "to": format_time(until),
        "groupBy": by,
        "currency": settings.currency,
        "totals": _serialize_sums(totals, settings),
        "data": rows,
        "nextCursor": cursor,
    }


def _read_range(now: Callable[[], datetime]) -> tuple[datetime, datetime]:
    """Return the requested hours; without `to`, up to the end of the current hour.

    Usage is stored by the hour. A time within an hour is refused: two consecutive reports would
    both count that hour.
    """
    until = _read_hour("to") or hour_of(now()) + HOUR
    since = _read_hour("from") or until - DEFAULT_RANGE
    if not since < until:
        raise InvalidRequest("from must be before to", param="from")
    if until - since > LONGEST_RANGE:
        raise InvalidRequest(f"a report covers at most {LONGEST_RANGE.days} days", param="from")
    return since, until


def _read_hour(name: str) -> datetime | None:
    moment = read_time(name)
    if moment is not None and moment != hour_of(moment):
        raise InvalidRequest(
            f"{name} must be a whole hour in UTC, such as 2026-11-01T13:00:00Z: usage is kept by "
            "the hour",
            param=name,
        )
    return moment


def _read_cursor(by: UsageGroup) -> GroupValue | None:
    """Return the last group of the previous page."""
    if by in _PREFIXES:
        return read_id_of("after", _PREFIXES[by])
    if by is UsageGroup.MODEL:
        return read_text("after", max_length=MAX_MODEL_LENGTH)
    return read_time("after")


def _read_owner(session: Session, caller: Caller) -> tuple[UUID | None, UUID | None]:
    """Return the user and the key that the report is limited to.

    Raises:
        NotFound: the caller may not see them, or they never existed. Deleted ones can be reported.
    """
    user_id = read_id_of("userId", Prefix.USER)
    if user_id is not None and not (caller.may_see(user_id) and has_user(session, user_id)):
        raise NotFound("there is no such user", param="userId")
    key_id = read_id_of("keyId", Prefix.KEY)
    if key_id is not None:
        owner_id = find_owner_of_key(session, key_id)
        if owner_id is None or not caller.may_see(owner_id):
            raise NotFound("there is no such key", param="keyId")
    return user_id or (None if caller.sees_all else caller.user.id), key_id


def _serialize_group(by: UsageGroup, group: GroupValue | None) -> str:
    if isinstance(group, UUID):
        return format_id(_PREFIXES[by], group)
    return format_time(group) or "" if isinstance(group, datetime) else str(group)


def _serialize_sums(sums: UsageTotals, settings: Settings) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "succeeded": sums.succeeded,
        "successRate": sums.success_rate,
        "promptTokens": sums.prompt_tokens,
        "completionTokens": sums.completion_tokens,
        "cachedTokens": sums.cached_tokens,
        "totalTokens": sums.tokens,
        "meanMs": None if sums.mean_ms is None else round(sums.mean_ms, 1),
        "p95Ms": None if sums.p95_ms is None else round(sums.p95_ms, 1),
        "cost": float(cost_of(sums, settings)),
    }


def _wants_csv() -> bool:
    kinds = ["application/json", "text/csv"]
    return request.accept_mimetypes.best_match(kinds, "application/json") == "text/csv"


def _as_csv(rows: list[dict[str, Any]], cursor: str | None) -> Response:
    """Return the rows as CSV (RFC 4180), with `x-next-cursor` if there is a next page."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["group", "name", *_serialize_sums(UsageTotals(), services().settings)])
    writer.writerows([csv_cell(value) for value in row.values()] for row in rows)
    response = Response(text.getvalue(), content_type="text/csv; charset=utf-8")
    response.headers["content-disposition"] = 'attachment; filename="usage.csv"'
    if cursor is not None:
        response.headers["x-next-cursor"] = cursor
    return response
