"""The list of batches. Rows are updated in place while their batches run."""

from __future__ import annotations

from typing import Any

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from admin_ui.batches.progress import BatchProgress
from admin_ui.batches.views import blueprint
from admin_ui.web.access import owner_filter, signed_in
from admin_ui.web.page import database
from admin_ui.web.typed_text import query_text
from admin_ui.widgets.list_filters import ListFilters, own_key_choices, read_ids
from admin_ui.widgets.pager import keyset_urls
from core.ids import Prefix, format_id, parse_id
from models.batches.batch import BatchState
from models.database.pagination import Keyset
from models.pages.batches import BatchFilter, ListedBatch, list_batch_page, read_listed_batches

__all__ = ["blueprint"]

PAGE_ROWS = 30
_FILTERS = ("state", "key", "user")


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    """Show one page of the batches that match the filters, newest first."""
    filters = ListFilters.read(_FILTERS)
    after, before = (
        parse_id(Prefix.BATCH, query_text(request.args, name)) for name in ("after", "before")
    )
    page: Keyset[ListedBatch] = Keyset([], has_before=False, has_after=False)
    if not filters.faults:
        wanted = BatchFilter(filters.user_id, filters.key_id, filters.member("state", BatchState))
        page = list_batch_page(database(), wanted, after=after, before=before, limit=PAGE_ROWS)

    def list_url(**mark: str) -> str:
        return url_for("batches.index", **{**filters.arguments, **mark})  # type: ignore[arg-type]

    html = render_template(
        "batches/index.html",
        filters=filters,
        key_options=own_key_choices(),
        state_options=[("", "any"), *((state.value, state.value) for state in BatchState)],
        **_rows(page.rows),
        **keyset_urls(page, _id_of, list_url),
    )
    return html, 400 if filters.faults else 200


@blueprint.get("/rows")
@signed_in
def rows() -> ResponseReturnValue:
    """Show the current state of the rows with the ids in the query."""
    found = read_listed_batches(
        database(), read_ids(Prefix.BATCH, limit=PAGE_ROWS), user_id=owner_filter()
    )
    return render_template("batches/rows.html", **_rows(found))


def _rows(batches: list[ListedBatch]) -> dict[str, Any]:
    """Return the rows with their progress, their ids, and whether all batches have ended."""
    return {
        "rows": [(listed, BatchProgress.of(listed.batch, listed.running)) for listed in batches],
        "ids": ",".join(map(_id_of, batches)),
        "is_final": all(listed.batch.is_final for listed in batches),
    }


def _id_of(listed: ListedBatch) -> str:
    return format_id(Prefix.BATCH, listed.batch.id)
