"""What all shapes of answers have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from core.ids import Prefix


class CamelCaseSchema(BaseModel):
    """The base of what is shown in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class SnakeCaseSchema(BaseModel):
    """The base of what is shown in snake_case: the product document's and OpenAI's shapes."""


class PageSchema(CamelCaseSchema):
    """One page of a list.

    Attributes:
        next_cursor: `after` of the next page; null on the last.
    """

    next_cursor: str | None


def id_pattern(prefix: Prefix) -> str:
    return f"^{prefix}_[0-9a-f]{{32}}$"


def _absent() -> Any:
    """Stand for a value that is not there: these models are never filled."""


#: The default of a field that is not always there, and never null where it is.
NOT_REQUIRED: Any = Field(default_factory=_absent)

JobId = Annotated[str, Field(pattern=id_pattern(Prefix.JOB))]
KeyId = Annotated[str, Field(pattern=id_pattern(Prefix.KEY))]
UserId = Annotated[str, Field(pattern=id_pattern(Prefix.USER))]
BatchId = Annotated[str, Field(pattern=id_pattern(Prefix.BATCH))]
WebhookId = Annotated[str, Field(pattern=id_pattern(Prefix.WEBHOOK))]
ActivityId = Annotated[str, Field(pattern=id_pattern(Prefix.AUDIT))]

#: One that was uploaded, or one of those that a batch is read as.
FILE_ID_PATTERN = f"^{Prefix.FILE}_((output|error)_)?[0-9a-f]{{32}}$"
FileId = Annotated[str, Field(pattern=FILE_ID_PATTERN)]

Share = Annotated[float, Field(ge=0, le=1)]
