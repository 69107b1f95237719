"""Describes a view for the document: its callers, its parameters and body, and its responses.

The docstring of the view is the text: the first paragraph is the summary, the others are the
description.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel

from api.openapi.parameters import Parameter
from api.openapi.refusals import Refusal
from api.openapi.response import ResponseSpec
from api.openapi.upload import UploadSpec

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "_openapi"


class CallerKind(Enum):
    """The credential that a call requires."""

    ANYONE = "anyone"
    USER = "user"
    ADMIN = "admin"
    KEY = "key"
    KEY_OR_USER = "key or user"


@dataclass(frozen=True, slots=True)
class Operation:
    """The description of one view.

    Attributes:
        responses: the successful ones, by status. `document.py` adds the errors of every call.
        upload: the file that the call accepts, if it accepts one.
        is_body_optional: an empty body means the same as an empty object.
        uses_backends: it needs the database or Redis, which can be away.
    """

    caller: CallerKind
    responses: Mapping[int, ResponseSpec]
    body: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    upload: UploadSpec | None = None
    is_body_optional: bool = False
    uses_backends: bool = True


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """Marks a view that returns a page for people, not a call of the API."""


def described(
    caller: CallerKind,
    responses: Mapping[int, ResponseSpec],
    *refusals: Refusal,
    body: type[BaseModel] | None = None,
    parameters: tuple[Parameter, ...] = (),
    upload: UploadSpec | None = None,
    is_body_optional: bool = False,
    uses_backends: bool = True,
) -> Callable[[View], View]:
    """Return a decorator that attaches an `Operation`; a view without one fails a test."""
    return _attach(
        Operation(
            caller, responses, body, parameters, refusals, upload, is_body_optional, uses_backends
        )
    )


def html_page() -> Callable[[View], View]:
    """Return a decorator for views that the document leaves out."""
    return _attach(HtmlPage())


def description_of(view: Callable[..., Any]) -> Operation | HtmlPage | None:
    """Return the description of a view, if it has one."""
    found: Operation | HtmlPage | None = getattr(view, _ATTRIBUTE, None)
    return found


def _attach(description: Operation | HtmlPage) -> Callable[[View], View]:
    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, description)
        return view

    return attach
