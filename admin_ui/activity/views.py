"""The page of the audit trail: actor, action, time and client address."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.activity.sentences import GROUPS, describe
from admin_ui.web.page import database
from admin_ui.web.typed_text import query_text
from admin_ui.widgets.list_filters import (
    PRESETS,
    UNKNOWN_USER,
    find_named_user,
    read_time_filter,
)
from admin_ui.widgets.pager import keyset_urls
from admin_ui.widgets.time_range import TimePreset, TimeRange
from core.ids import Prefix, format_id, parse_id
from models.accounts.audit import ADDRESS_LENGTH, read_target
from models.database.pagination import Keyset
from models.pages.activity import Activity, ActivityFilter, list_activity

blueprint = Blueprint("activity", __name__, url_prefix="/activity")

PAGE_ROWS = 50
_FILTERS = ("actor", "target", "group", "address")


@blueprint.get("")
def index() -> ResponseReturnValue:
    """Show one page of the entries that match the filters, newest first."""
    filters = {name: query_text(request.args, name) for name in _FILTERS}
    time = read_time_filter()
    faults = dict(time.faults)
    wanted = _wanted(filters, time, faults)
    after, before = (
        parse_id(Prefix.AUDIT, query_text(request.args, name)) for name in ("after", "before")
    )
    entries: Keyset[Activity] = Keyset([], has_before=False, has_after=False)
    if not faults:
        entries = list_activity(database(), wanted, after=after, before=before, limit=PAGE_ROWS)
    arguments = {**time.arguments, **{name: value for name, value in filters.items() if value}}
    if "zone" in request.args:
        arguments["zone"] = request.args["zone"]

    def list_url(**changes: str | None) -> str:
        return url_for("activity.index", **{**arguments, **changes})  # type: ignore[arg-type]

    page = render_template(
        "activity/index.html",
        events=describe(database(), entries.rows),
        filters=filters,
        time=time,
        presets=PRESETS,
        group_options=[("", "Everything"), *GROUPS.items()],
        faults=faults,
        list_url=list_url,
        is_filtered=bool(any(filters.values()) or time.preset is not TimePreset.ALL),
        **keyset_urls(entries, lambda activity: format_id(Prefix.AUDIT, activity.id), list_url),
    )
    return page, 400 if faults else 200


def _wanted(filters: dict[str, str], time: TimeRange, faults: dict[str, str]) -> ActivityFilter:
    """Return the entries that the filters ask for; add the filters' faults to `faults`."""
    actor_id = None
    if actor := filters["actor"]:
        if found := find_named_user(actor):
            actor_id, filters["actor"] = found
        else:
            faults["actor"] = UNKNOWN_USER
    target_id = None
    if target := filters["target"]:
        target_id = read_target(target)
        if target_id is None:
            faults["target"] = (
                "Write the id of a key, a user, a webhook message, a job, a batch or a file: key_…"
            )
    group = filters["group"]
    return ActivityFilter(
        actor_id=actor_id,
        target_id=target_id,
        action_group=group if group in GROUPS else None,
        address=filters["address"][:ADDRESS_LENGTH] or None,
        since=time.since,
        until=time.until,
    )
