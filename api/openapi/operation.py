"""What a view says of itself: who may call it, what goes in, what comes out, what can go wrong.

Its docstring is the text: the first paragraph is the summary, the others the description.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel

from api.openapi.answer import Answer
from api.openapi.parameters import Parameter
from api.openapi.refusals import Refusal
from api.openapi.upload import Upload

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "_openapi"


class Who(Enum):
    """Which credential a call takes."""

    ANYONE = "anyone"
    USER = "user"
    ADMIN = "admin"
    KEY = "key"
    KEY_OR_USER = "key or user"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call.

    Attributes:
        answers: by status; what every call can answer beside them is added when assembling.
        upload: it takes a file.
        is_body_optional: nothing in the body is as good as an empty object.
        uses_parts: it needs the database or Redis, which can be away.
    """

    who: Who
    answers: Mapping[int, Answer]
    body: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    upload: Upload | None = None
    is_body_optional: bool = False
    uses_parts: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """A view that is there for people, not a call of the API."""


def described(
    who: Who,
    answers: Mapping[int, Answer],
    *refusals: Refusal,
    body: type[BaseModel] | None = None,
    parameters: tuple[Parameter, ...] = (),
    upload: Upload | None = None,
    is_body_optional: bool = False,
    uses_parts: bool = True,
) -> Callable[[View], View]:
    """Return a decorator that attaches what a view is; a view without one fails a test."""
    return _attach(
        Operation(who, answers, body, parameters, refusals, upload, is_body_optional, uses_parts)
    )


def page_for_people() -> Callable[[View], View]:
    """Return a decorator for views that the document leaves out."""
    return _attach(Page())


def description_of(view: Callable[..., Any]) -> Operation | Page | None:
    """Return what was attached to a view."""
    found: Operation | Page | None = getattr(view, _ATTRIBUTE, None)
    return found


def _attach(description: Operation | Page) -> Callable[[View], View]:
    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, description)
        return view

    return attach
