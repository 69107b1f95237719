"""Who did what, when and from where."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.activity.sentences import GROUPS, describe
from admin_ui.web.page import database, present_time
from admin_ui.widgets.time_range import Choice, TimeRange, read_time_range, read_zone
from core.ids import Prefix, read_id, show_id
from models.accounts.audit import ADDRESS_LENGTH, read_target
from models.accounts.names import user_emails
from models.accounts.user import find_user_id
from models.database.pagination import Keyset
from models.pages.activity import Activity, ActivityFilter, list_activity

blueprint = Blueprint("activity", __name__, url_prefix="/activity")

PAGE_ROWS = 50
CHOICES = (Choice.ALL, Choice.TODAY, Choice.WEEK, Choice.THIRTY_DAYS)
_FILTERS = ("actor", "target", "group", "address")
_MAX_LENGTH = 320


@blueprint.get("")
def index() -> ResponseReturnValue:
    """The newest entries that the filters leave, a page of them."""
    filters = {name: _text(name) for name in _FILTERS}
    zone = read_zone(request.args.get("zone"))
    time = read_time_range(
        request.args, present_time(), choices=CHOICES, default=Choice.ALL, zone=zone
    )
    faults = dict(time.faults)
    wanted = _wanted(filters, time, faults)
    after, before = (read_id(Prefix.AUDIT, _text(name)) for name in ("after", "before"))
    entries: Keyset[Activity] = Keyset([], has_before=False, has_after=False)
    if not faults:
        entries = list_activity(database(), wanted, after=after, before=before, limit=PAGE_ROWS)
    arguments = {**time.arguments, **{name: value for name, value in filters.items() if value}}
    if "zone" in request.args:
        arguments["zone"] = request.args["zone"]

    def address(**changes: str | None) -> str:
        return url_for("activity.index", **{**arguments, **changes})  # type: ignore[arg-type]

    page = render_template(
        "activity/index.html",
        events=describe(database(), entries.rows),
        filters=filters,
        time=time,
        choices=CHOICES,
        group_options=[("", "Everything"), *GROUPS.items()],
        faults=faults,
        address=address,
        is_filtered=bool(any(filters.values()) or time.choice is not Choice.ALL),
        newer=address(before=_id_of(entries.rows[0]))
        if entries.has_before and entries.rows
        else None,
        older=address(after=_id_of(entries.rows[-1]))
        if entries.has_after and entries.rows
        else None,
    )
    return page, 400 if faults else 200


def _wanted(filters: dict[str, str], time: TimeRange, faults: dict[str, str]) -> ActivityFilter:
    """Return what the filters ask for, and note what is wrong with them in `faults`."""
    actor_id = None
    if actor := filters["actor"]:
        actor_id = read_id(Prefix.USER, actor) or find_user_id(database(), actor)
        if actor_id is None:
            faults["actor"] = "No account has or had this email."
        else:
            filters["actor"] = user_emails(database(), {actor_id}).get(actor_id, actor)
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


def _id_of(activity: Activity) -> str:
    return show_id(Prefix.AUDIT, activity.id)


def _text(name: str) -> str:
    return request.args.get(name, "").replace("\x00", "").strip()[:_MAX_LENGTH]
