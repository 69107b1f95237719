"""The list of batches. Rows that change stay where they are."""

from __future__ import annotations

from typing import Any

from flask import render_template, url_for
from flask.typing import ResponseReturnValue

from admin_ui.batches.progress import Progress
from admin_ui.batches.views import blueprint
from admin_ui.web.access import own_rows, signed_in
from admin_ui.web.page import database
from admin_ui.widgets.list_filters import ListFilters, ids_of, key_options, text_of
from core.ids import Prefix, read_id, show_id
from models.batches.batch import BatchState
from models.database.pagination import Keyset
from models.pages.batches import BatchFilter, ListedBatch, list_batch_page, read_listed_batches

__all__ = ["blueprint"]

PAGE_ROWS = 30
_FILTERS = ("state", "key", "user")


@blueprint.get("")
@signed_in
def index() -> ResponseReturnValue:
    """The newest batches that the filters leave, a page of them."""
    filters = ListFilters.read(_FILTERS)
    after, before = (read_id(Prefix.BATCH, text_of(name)) for name in ("after", "before"))
    page: Keyset[ListedBatch] = Keyset([], has_before=False, has_after=False)
    if not filters.faults:
        wanted = BatchFilter(filters.user_id, filters.key_id, filters.one_of("state", BatchState))
        page = list_batch_page(database(), wanted, after=after, before=before, limit=PAGE_ROWS)
    shown = render_template(
        "batches/index.html",
        filters=filters,
        key_options=key_options(),
        state_options=[("", "any"), *((state.value, state.value) for state in BatchState)],
        **_rows(page.rows),
        **_around(page, filters),
    )
    return shown, 400 if filters.faults else 200


@blueprint.get("/rows")
@signed_in
def rows() -> ResponseReturnValue:
    """The same rows as they are now, by their ids: none comes, goes or moves."""
    found = read_listed_batches(
        database(),
        ids_of(Prefix.BATCH, most=PAGE_ROWS),
        user_id=own_rows(),
    )
    return render_template("batches/rows.html", **_rows(found))


def _rows(batches: list[ListedBatch]) -> dict[str, Any]:
    """Return the rows with their progress, and whether any of them may still change."""
    return {
        "rows": [(listed, Progress.of(listed.batch, listed.running)) for listed in batches],
        "ids": ",".join(show_id(Prefix.BATCH, listed.batch.id) for listed in batches),
        "is_over": all(listed.batch.is_final for listed in batches),
    }


def _around(page: Keyset[ListedBatch], filters: ListFilters) -> dict[str, str | None]:
    """Return the addresses of the pages before and behind."""

    def address(**mark: str) -> str:
        return url_for("batches.index", **{**filters.arguments, **mark})  # type: ignore[arg-type]

    rows = page.rows
    newer = page.has_before and rows
    older = page.has_after and rows
    return {
        "newer": address(before=show_id(Prefix.BATCH, rows[0].batch.id)) if newer else None,
        "older": address(after=show_id(Prefix.BATCH, rows[-1].batch.id)) if older else None,
    }
