"""Conditions on arrays: a list of any length as one parameter, or the rows of a query."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Select, any_, func, literal
from sqlalchemy.orm import InstrumentedAttribute


def is_one_of(
    column: ColumnElement[Any] | InstrumentedAttribute[Any], values: Collection[Any]
) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values."""
    return column == any_(literal(list(values), ARRAY(column.type)))


def is_among(
    column: ColumnElement[Any] | InstrumentedAttribute[Any], query: Select[Any]
) -> ColumnElement[bool]:
    """Return the condition that a column is among those that a query finds.

    As an array the query runs once. PostgreSQL may run that of an `in` for each row, which takes
    the square of its time. If it locks rows, it would each time skip those that the statement has
    changed and lock the next, beyond the limit.
    """
    condition: ColumnElement[bool] = column == any_(func.array(query.scalar_subquery()))
    return condition


def uuid_array(ids: Iterable[UUID]) -> str:
    """Return ids as the text of a PostgreSQL array, for statements outside the ORM."""
    return f"{{{','.join([row_id.hex for row_id in ids])}}}"
