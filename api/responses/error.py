"""The one shape of every error."""

from __future__ import annotations

from api.responses.base import NOT_REQUIRED, CamelCaseSchema, SnakeCaseSchema


class FaultSchema(SnakeCaseSchema):
    """One wrong field, by the name that the request has for it."""

    param: str
    message: str


class ErrorBodySchema(CamelCaseSchema):
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
    fields: list[FaultSchema] = NOT_REQUIRED


class ErrorSchema(SnakeCaseSchema):
    error: ErrorBodySchema
