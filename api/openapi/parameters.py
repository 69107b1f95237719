"""The parameters of a call: in its path, its query and its headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from api.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from api.responses.base import FILE_ID_PATTERN, id_pattern
from core.ids import Prefix


class ParameterLocation(StrEnum):
    PATH = "path"
    QUERY = "query"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; pydantic makes the schema from `kind`, its type."""

    name: str
    location: ParameterLocation
    kind: Any
    description: str

    def parameter_object(self) -> dict[str, Any]:
        """Return the Parameter Object of OpenAPI."""
        schema = TypeAdapter(self.kind).json_schema()
        schema.pop("title", None)
        described: dict[str, Any] = {
            "name": self.name,
            "in": self.location.value,
            "description": self.description,
            "schema": schema,
        }
        if self.location is ParameterLocation.PATH:
            described["required"] = True
        return described


def query(name: str, kind: Any, description: str) -> Parameter:
    return Parameter(name, ParameterLocation.QUERY, kind, description)


def id_query(name: str, prefix: Prefix, description: str) -> Parameter:
    """Return a parameter that is an id; an empty one counts as not given."""
    kind = Annotated[str, Field(pattern=f"^$|{id_pattern(prefix)}")]
    return query(name, kind, description)


def time_query(name: str, description: str) -> Parameter:
    text = f"{description}: a date or time of RFC 3339; without a time zone it is in UTC"
    return query(name, str, text)


def text_query(name: str, max_length: int, description: str) -> Parameter:
    kind = Annotated[str, Field(max_length=max_length, pattern="^[^\\x00]*$")]
    return query(name, kind, description)


def limit(default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT) -> Parameter:
    kind = Annotated[int, Field(ge=1, le=most, json_schema_extra={"default": default})]
    return query("limit", kind, "the greatest number of entries")


def paging(prefix: Prefix) -> tuple[Parameter, ...]:
    """Return the parameters of a list with a cursor."""
    return limit(), id_query("after", prefix, "the `nextCursor` of the previous page")


#: Parameters of paths, by their names in the routes.
PATH_PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        *(
            Parameter(
                name,
                ParameterLocation.PATH,
                Annotated[str, Field(pattern=id_pattern(prefix))],
                "its id",
            )
            for name, prefix in (
                ("batch_id", Prefix.BATCH),
                ("job_id", Prefix.JOB),
                ("key_id", Prefix.KEY),
                ("user_id", Prefix.USER),
                ("webhook_id", Prefix.WEBHOOK),
            )
        ),
        Parameter(
            "file_id",
            ParameterLocation.PATH,
            Annotated[str, Field(pattern=FILE_ID_PATTERN)],
            "its id",
        ),
        Parameter("name", ParameterLocation.PATH, str, "the model's name"),
    )
}

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    ParameterLocation.HEADER,
    Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")],
    "within 24 hours, a request with the same key and body returns the same job or batch, "
    "which is charged once",
)
PREFER = Parameter(
    "Prefer",
    ParameterLocation.HEADER,
    str,
    "`respond-async` for a 202 at once, `wait=N` for a 202 after N seconds (RFC 7240)",
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    ParameterLocation.HEADER,
    str,
    "the id of the last event that you have; the stream resumes after it",
)
