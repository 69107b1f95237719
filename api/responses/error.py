"""The one shape of every error."""

from __future__ import annotations

from api.responses.shown import SOMETIMES, Plain, Shown


class Fault(Plain):
    """One wrong field, by the name that the request has for it."""

    param: str
    message: str


class ErrorBody(Shown):
    """What went wrong.

    Attributes:
        code: stable: programs may rely on it.
        message: for people; it may change.
        param: the field, parameter or header that is at fault, where it is one.
        fields: all wrong fields of the body.
        request_id: names this request in the service's logs.
    """

    code: str
    type: str
    message: str
    param: str | None
    request_id: str
    fields: list[Fault] = SOMETIMES


class Error(Plain):
    error: ErrorBody
