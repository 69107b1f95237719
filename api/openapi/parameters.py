"""What a call takes beside its body: parts of its path, its query and its headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from api.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from api.responses.base import FILE_ID_PATTERN, id_pattern
from core.ids import Prefix


class Place(StrEnum):
    PATH = "path"
    QUERY = "query"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; its type is what pydantic makes a schema of."""

    name: str
    place: Place
    kind: Any
    description: str

    def show(self) -> dict[str, Any]:
        schema = TypeAdapter(self.kind).json_schema()
        schema.pop("title", None)
        shown: dict[str, Any] = {
            "name": self.name,
            "in": self.place.value,
            "description": self.description,
            "schema": schema,
        }
        if self.place is Place.PATH:
            shown["required"] = True
        return shown


def query(name: str, kind: Any, description: str) -> Parameter:
    return Parameter(name, Place.QUERY, kind, description)


def id_query(name: str, prefix: Prefix, description: str) -> Parameter:
    """Return a parameter that is an id, or empty as if it were not given."""
    kind = Annotated[str, Field(pattern=f"^$|{id_pattern(prefix)}")]
    return query(name, kind, description)


def time_query(name: str, description: str) -> Parameter:
    text = f"{description}: a date or time of RFC 3339, in UTC unless it says otherwise"
    return query(name, str, text)


def text_query(name: str, max_length: int, description: str) -> Parameter:
    kind = Annotated[str, Field(max_length=max_length, pattern="^[^\\x00]*$")]
    return query(name, kind, description)


def limit(default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT) -> Parameter:
    kind = Annotated[int, Field(ge=1, le=most, json_schema_extra={"default": default})]
    return query("limit", kind, "how many at most")


def paging(prefix: Prefix) -> tuple[Parameter, ...]:
    """Return the parameters of a list by cursor."""
    return limit(), id_query("after", prefix, "`nextCursor` of the page before")


#: Parts of paths, by their names in the routes.
PATH_PARTS = {
    part.name: part
    for part in (
        *(
            Parameter(name, Place.PATH, Annotated[str, Field(pattern=id_pattern(prefix))], "its id")
            for name, prefix in (
                ("batch_id", Prefix.BATCH),
                ("job_id", Prefix.JOB),
                ("key_id", Prefix.KEY),
                ("user_id", Prefix.USER),
                ("webhook_id", Prefix.WEBHOOK),
            )
        ),
        Parameter("file_id", Place.PATH, Annotated[str, Field(pattern=FILE_ID_PATTERN)], "its id"),
        Parameter("name", Place.PATH, str, "the model's name"),
    )
}

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    Place.HEADER,
    Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")],
    "the same key and body within 24 hours are the same job or batch, charged once",
)
PREFER = Parameter(
    "Prefer",
    Place.HEADER,
    str,
    "`respond-async` for a 202 at once, `wait=N` for one after N seconds (RFC 7240)",
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID", Place.HEADER, str, "the id of the last event that you have: go on after it"
)
