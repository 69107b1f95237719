"""Lists of any length as one parameter of a statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, any_, literal
from sqlalchemy.orm import InstrumentedAttribute


def is_one_of(
    column: ColumnElement[Any] | InstrumentedAttribute[Any], values: Collection[Any]
) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values."""
    return column == any_(literal(list(values), ARRAY(column.type)))


def uuid_array(ids: Iterable[UUID]) -> str:
    """Return ids as the text of a PostgreSQL array, for statements outside the ORM."""
    return f"{{{','.join([row_id.hex for row_id in ids])}}}"
