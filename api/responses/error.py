"""The schema of every error."""

from __future__ import annotations

from api.responses.base import NOT_REQUIRED, CamelCaseSchema, SnakeCaseSchema


class FaultSchema(SnakeCaseSchema):
    """One wrong field, by its name in the request."""

    param: str
    message: str


class ErrorBodySchema(CamelCaseSchema):
    """The error.

    Attributes:
        code: the kind of error. It is stable: programs may rely on it.
        message: a text for people; it may change.
        param: the field, parameter or header at fault, if there is one.
        fields: all wrong fields of the body.
        request_id: the id of this request in the service's logs.
    """

    code: str
    type: str
    message: str
    param: str | None
    request_id: str
    fields: list[FaultSchema] = NOT_REQUIRED


class ErrorSchema(SnakeCaseSchema):
    error: ErrorBodySchema
