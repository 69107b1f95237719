"""The options of an uploaded file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from api.http.field_faults import invalid_request
from api.v1.generation.ignored_fields import OpenAIBody
from core.text.integers import bounded_integer
from core.text.names import is_visible

SHORTEST_SECONDS = 3600
LONGEST_SECONDS = 30 * 24 * 3600
MAX_NAME_LENGTH = 255
DEFAULT_NAME = "upload.jsonl"


def _batch(value: Any) -> Any:
    if value != "batch":
        raise ValueError("purpose must be batch: this service keeps files for batches only")
    return value


def _created_at(value: Any) -> Any:
    if value != "created_at":
        raise ValueError("expires_after[anchor] must be created_at")
    return value


def _number(value: Any) -> Any:
    """Parse digits: a form has no numbers."""
    number = bounded_integer(value) if isinstance(value, str) else None
    if number is not None:
        return number
    raise ValueError("expires_after[seconds] must be a whole number")


class FileOptions(OpenAIBody):
    purpose: Annotated[Literal["batch"], BeforeValidator(_batch)]
    anchor: Annotated[Literal["created_at"] | None, BeforeValidator(_created_at)] = Field(
        None, alias="expires_after[anchor]"
    )
    seconds: Annotated[
        int | None, Field(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS), BeforeValidator(_number)
    ] = Field(None, alias="expires_after[seconds]")

    @model_validator(mode="after")
    def _both_or_neither(self) -> FileOptions:
        if (self.anchor is None) != (self.seconds is None):
            raise ValueError("expires_after needs anchor and seconds")
        return self


class FileForm(OpenAIBody):
    """A form with a file.

    Attributes:
        file: the file, with a filename.
        anchor: the moment from which `expires_after[seconds]` counts.
        seconds: time until the file is deleted, from an hour to 30 days.
    """

    file: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/jsonl"})]
    purpose: Literal["batch"]
    anchor: Literal["created_at"] | None = Field(None, alias="expires_after[anchor]")
    seconds: Annotated[int, Field(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS)] | None = Field(
        None, alias="expires_after[seconds]"
    )


def read_options(given: Mapping[str, str]) -> FileOptions:
    """Parse the options of an uploaded file.

    Raises:
        InvalidRequest: options are not valid; `fields` names each.
    """
    try:
        return FileOptions.model_validate(dict(given))
    except ValidationError as error:
        raise invalid_request(error, of="the form", kind=FileOptions) from None


def clean_name(given: str | None) -> str:
    """Return a filename without invisible characters, or the default name."""
    name = "".join(letter for letter in given or "" if letter.isprintable())[:MAX_NAME_LENGTH]
    return name if is_visible(name) else DEFAULT_NAME
