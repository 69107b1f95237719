"""Base classes and common types of the schemas of responses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from core.ids import Prefix


class CamelCaseSchema(BaseModel):
    """The base of schemas with names in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class SnakeCaseSchema(BaseModel):
    """The base of schemas with names in snake_case."""


class PageSchema(CamelCaseSchema):
    """One page of a list.

    Attributes:
        next_cursor: the `after` of the next page; null on the last page.
    """

    next_cursor: str | None


def id_pattern(prefix: Prefix) -> str:
    """Return the regular expression of an id."""
    return f"^{prefix}_[0-9a-f]{{32}}$"


def _absent() -> Any:
    """Return the default of a missing field; no code creates instances of these models."""


#: The default of a field that a response may omit, and that is never null.
NOT_REQUIRED: Any = Field(default_factory=_absent)

JobId = Annotated[str, Field(pattern=id_pattern(Prefix.JOB))]
KeyId = Annotated[str, Field(pattern=id_pattern(Prefix.KEY))]
UserId = Annotated[str, Field(pattern=id_pattern(Prefix.USER))]
BatchId = Annotated[str, Field(pattern=id_pattern(Prefix.BATCH))]
WebhookId = Annotated[str, Field(pattern=id_pattern(Prefix.WEBHOOK))]
ActivityId = Annotated[str, Field(pattern=id_pattern(Prefix.AUDIT))]

#: An uploaded file, or one of the files with the results of a batch.
FILE_ID_PATTERN = f"^{Prefix.FILE}_((output|error)_)?[0-9a-f]{{32}}$"
FileId = Annotated[str, Field(pattern=FILE_ID_PATTERN)]

Share = Annotated[float, Field(ge=0, le=1)]
