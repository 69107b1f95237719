"""Which field of a model a caller may have meant by a name that it does not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

#: Longer names are no misspelling.
MAX_LENGTH = 64
#: How alike two names must be, of 1.
LIKENESS = 0.8

Place = Sequence[int | str]


def near_field(kind: type[BaseModel], place: Place) -> str | None:
    """Return the field that is nearest to the unknown one at `place`, if any is near."""
    model, name = _model_at(kind, place[:-1]), str(place[-1])
    if model is None or len(name) > MAX_LENGTH:
        return None
    known = {_plain(shown): shown for shown in _names(model)}
    found = difflib.get_close_matches(_plain(name), known, n=1, cutoff=LIKENESS)
    return known[found[0]] if found else None


def known_otherwise(kind: type[BaseModel], place: Place) -> str | None:
    """Return the other spelling of a field that was given in both."""
    model, name = _model_at(kind, place[:-1]), str(place[-1])
    field = None if model is None else model.model_fields.get(name)
    return None if field is None else field.alias


def _model_at(kind: type[BaseModel], place: Place) -> type[BaseModel] | None:
    model: type[BaseModel] | None = kind
    for part in place:
        if model is not None and isinstance(part, str):
            field = _field(model, part)
            model = None if field is None else next(_models_in(field.annotation), None)
    return model


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    known = model.model_fields
    return known.get(name) or next((one for one in known.values() if one.alias == name), None)


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
