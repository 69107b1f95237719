"""The list of jobs. Its rows stay where they are while they change; newer jobs are announced."""

from __future__ import annotations

from typing import Any

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.jobs.times import JobTimes
from admin_ui.jobs.views import blueprint
from admin_ui.web.access import own_rows, signed_in
from admin_ui.web.page import database, present_time
from admin_ui.widgets.list_filters import CHOICES, ListFilters, ids_of, key_options, text_of
from core.ids import Prefix, read_id, show_id
from models.database.pagination import Keyset
from models.jobs.job import JobState
from models.pages.jobs import (
    JobFilter,
    JobSource,
    ListedJob,
    count_jobs,
    count_newer,
    list_job_page,
    read_listed_jobs,
)

__all__ = ["blueprint"]

PAGE_ROWS = 50
#: Newer jobs are counted up to so many.
MOST_NEW = 100
_FILTERS = ("state", "source", "key", "user")
SOURCES = [("", "All"), (JobSource.API.value, "API"), (JobSource.BATCH.value, "Batch")]


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    """The newest jobs that the filters leave, a page of them."""
    filters = ListFilters.read(_FILTERS)
    if job := text_of("job"):
        if job_id := read_id(Prefix.JOB, job):
            return redirect(url_for("jobs.show", job_id=show_id(Prefix.JOB, job_id)), 303)
        filters.faults["job"] = "Write the whole id of a job: gen_…"
    after, before = (read_id(Prefix.JOB, text_of(name)) for name in ("after", "before"))
    page: Keyset[ListedJob] = Keyset([], has_before=False, has_after=False)
    if not filters.faults:
        wanted = _wanted(filters)
        page = list_job_page(database(), wanted, after=after, before=before, limit=PAGE_ROWS)
    shown = render_template(
        "jobs/index.html",
        filters=filters,
        choices=CHOICES,
        key_options=key_options(),
        source_options=SOURCES,
        address=_address(filters),
        state_options=[("", "any"), *((state.value, state.value) for state in JobState)],
        job=job,
        counts=count_jobs(database(), present_time(), user_id=own_rows()),
        new=0,
        most_new=MOST_NEW,
        newest=_newest(page) if not page.has_before else None,
        **_rows(page.rows),
        **_around(page, filters),
    )
    return shown, 400 if filters.faults else 200


@blueprint.get("/rows")
@signed_in
def rows() -> ResponseReturnValue:
    """The same rows as they are now, by their ids: none comes, goes or moves."""
    ids = ids_of(Prefix.JOB, most=PAGE_ROWS)
    found = read_listed_jobs(database(), ids, user_id=own_rows())
    return render_template("jobs/rows.html", **_rows(found))


@blueprint.get("/now")
@signed_in
def now() -> ResponseReturnValue:
    """How many jobs wait and run, and how many are newer than the newest that is shown."""
    filters = ListFilters.read(_FILTERS)
    newest = text_of("newest") if "newest" in request.args else None
    new = 0
    if newest is not None and not filters.faults:
        newest_id = read_id(Prefix.JOB, newest)
        new = count_newer(database(), _wanted(filters), newest_id, most=MOST_NEW)
    return render_template(
        "jobs/now.html",
        filters=filters,
        address=_address(filters),
        counts=count_jobs(database(), present_time(), user_id=own_rows()),
        new=new,
        most_new=MOST_NEW,
        newest=newest,
    )


def _wanted(filters: ListFilters) -> JobFilter:
    return JobFilter(
        user_id=filters.user_id,
        key_id=filters.key_id,
        state=filters.one_of("state", JobState),
        source=filters.one_of("source", JobSource),
        since=filters.time.since,
        until=filters.time.until,
    )


def _address(filters: ListFilters) -> Any:
    def address(endpoint: str = "jobs.index", **changes: str | None) -> str:
        return url_for(endpoint, **{**filters.arguments, **changes})  # type: ignore[arg-type]

    return address


def _rows(jobs: list[ListedJob]) -> dict[str, Any]:
    """Return the rows with their times, and whether any of them may still change."""
    moment = present_time()
    return {
        "rows": [(listed, JobTimes.of(listed.job, moment)) for listed in jobs],
        "ids": ",".join(show_id(Prefix.JOB, listed.job.id) for listed in jobs),
        "is_over": all(listed.job.is_final for listed in jobs),
    }


def _newest(page: Keyset[ListedJob]) -> str:
    return show_id(Prefix.JOB, page.rows[0].job.id) if page.rows else ""


def _around(page: Keyset[ListedJob], filters: ListFilters) -> dict[str, str | None]:
    """Return the addresses of the pages before and behind."""
    address = _address(filters)
    rows = page.rows
    newer = page.has_before and rows
    older = page.has_after and rows
    return {
        "newer": address(before=show_id(Prefix.JOB, rows[0].job.id)) if newer else None,
        "older": address(after=show_id(Prefix.JOB, rows[-1].job.id)) if older else None,
    }
