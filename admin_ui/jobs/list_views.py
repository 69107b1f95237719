"""The list of jobs. Rows are updated in place; newer jobs are counted above the list."""

from __future__ import annotations

from typing import Any

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.jobs.times import JobTimes
from admin_ui.jobs.views import blueprint
from admin_ui.web.access import owner_filter, signed_in
from admin_ui.web.page import database, present_time
from admin_ui.web.typed_text import query_text
from admin_ui.widgets.list_filters import PRESETS, ListFilters, own_key_choices, read_ids
from admin_ui.widgets.pager import keyset_urls
from core.ids import Prefix, format_id, parse_id
from models.database.pagination import Keyset
from models.jobs.job import JobState
from models.pages.jobs import (
    JobFilter,
    JobSource,
    ListedJob,
    count_newer,
    count_open_jobs,
    list_job_page,
    read_listed_jobs,
)

__all__ = ["blueprint"]

PAGE_ROWS = 50
#: Newer jobs are counted up to this number.
MAX_NEW = 100
_FILTERS = ("state", "source", "key", "user")
SOURCES = [("", "All"), (JobSource.API.value, "API"), (JobSource.BATCH.value, "Batch")]


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    """Show one page of the jobs that match the filters, newest first."""
    filters = ListFilters.read(_FILTERS)
    if job := query_text(request.args, "job"):
        if job_id := parse_id(Prefix.JOB, job):
            return redirect(url_for("jobs.show", job_id=format_id(Prefix.JOB, job_id)), 303)
        filters.faults["job"] = "Write the whole id of a job: gen_…"
    after, before = (
        parse_id(Prefix.JOB, query_text(request.args, name)) for name in ("after", "before")
    )
    page: Keyset[ListedJob] = Keyset([], has_before=False, has_after=False)
    if not filters.faults:
        wanted = _wanted(filters)
        page = list_job_page(database(), wanted, after=after, before=before, limit=PAGE_ROWS)
    list_url = _list_url(filters)
    html = render_template(
        "jobs/index.html",
        filters=filters,
        presets=PRESETS,
        key_options=own_key_choices(),
        source_options=SOURCES,
        list_url=list_url,
        state_options=[("", "any"), *((state.value, state.value) for state in JobState)],
        job=job,
        counts=count_open_jobs(database(), user_id=owner_filter()),
        new=0,
        max_new=MAX_NEW,
        newest=_newest(page) if not page.has_before else None,
        **_rows(page.rows),
        **keyset_urls(page, _id_of, list_url),
    )
    return html, 400 if filters.faults else 200


@blueprint.get("/rows")
@signed_in
def rows() -> ResponseReturnValue:
    """Show the current state of the rows with the ids in the query."""
    ids = read_ids(Prefix.JOB, limit=PAGE_ROWS)
    found = read_listed_jobs(database(), ids, user_id=owner_filter())
    return render_template("jobs/rows.html", **_rows(found))


@blueprint.get("/now")
@signed_in
def counts() -> ResponseReturnValue:
    """Show how many jobs wait, run, and are newer than the newest row of the list."""
    filters = ListFilters.read(_FILTERS)
    newest = query_text(request.args, "newest") if "newest" in request.args else None
    new = 0
    if newest is not None and not filters.faults:
        newest_id = parse_id(Prefix.JOB, newest)
        new = count_newer(database(), _wanted(filters), newest_id, most=MAX_NEW)
    return render_template(
        "jobs/counts.html",
        list_url=_list_url(filters),
        counts=count_open_jobs(database(), user_id=owner_filter()),
        new=new,
        max_new=MAX_NEW,
        newest=newest,
    )


def _wanted(filters: ListFilters) -> JobFilter:
    return JobFilter(
        user_id=filters.user_id,
        key_id=filters.key_id,
        state=filters.member("state", JobState),
        source=filters.member("source", JobSource),
        since=filters.time.since,
        until=filters.time.until,
    )


def _list_url(filters: ListFilters) -> Any:
    def list_url(endpoint: str = "jobs.index", **changes: str | None) -> str:
        return url_for(endpoint, **{**filters.arguments, **changes})  # type: ignore[arg-type]

    return list_url


def _rows(jobs: list[ListedJob]) -> dict[str, Any]:
    """Return the rows with their times, their ids, and whether all jobs have ended."""
    now = present_time()
    return {
        "rows": [(listed, JobTimes.of(listed.job, now)) for listed in jobs],
        "ids": ",".join(map(_id_of, jobs)),
        "is_final": all(listed.job.is_final for listed in jobs),
    }


def _newest(page: Keyset[ListedJob]) -> str:
    return _id_of(page.rows[0]) if page.rows else ""


def _id_of(listed: ListedJob) -> str:
    return format_id(Prefix.JOB, listed.job.id)
