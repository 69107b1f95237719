"""Suggests the field of a model that a caller may have meant by an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

#: A longer name is not a misspelling.
MAX_LENGTH = 64
#: The least similarity of two names, of 1.
MIN_SIMILARITY = 0.8

FieldPath = Sequence[int | str]


def near_field(kind: type[BaseModel], path: FieldPath) -> str | None:
    """Return the field that is most similar to the unknown one at `path`, if any is."""
    model, name = _model_at(kind, path[:-1]), str(path[-1])
    if model is None or len(name) > MAX_LENGTH:
        return None
    known = {_plain(field): field for field in _names(model)}
    found = difflib.get_close_matches(_plain(name), known, n=1, cutoff=MIN_SIMILARITY)
    return known[found[0]] if found else None


def other_spelling(kind: type[BaseModel], path: FieldPath) -> str | None:
    """Return the other spelling of a field, if the caller sent both spellings."""
    model, name = _model_at(kind, path[:-1]), str(path[-1])
    field = None if model is None else model.model_fields.get(name)
    return None if field is None else field.alias


def _model_at(kind: type[BaseModel], path: FieldPath) -> type[BaseModel] | None:
    model: type[BaseModel] | None = kind
    for part in path:
        if model is not None and isinstance(part, str):
            field = _field(model, part)
            model = None if field is None else next(_models_in(field.annotation), None)
    return model


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    known = model.model_fields
    return known.get(name) or next((field for field in known.values() if field.alias == name), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _names(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names that callers write."""
    for name, field in model.model_fields.items():
        yield field.alias or name


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
