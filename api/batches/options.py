"""The options of a batch beside its lines."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from core.generation import MAX_URL_LENGTH, Body, Metadata, Text
from core.text.names import VISIBLE
from models.batches.batch import OnError

MAX_NAME_LENGTH = 200
DEFAULT_WINDOW = timedelta(hours=24)
SHORTEST_WINDOW = timedelta(seconds=60)
LONGEST_WINDOW = timedelta(days=7)

_WINDOW = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _read_window(value: Any) -> Any:
    found = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    window = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not SHORTEST_WINDOW <= window <= LONGEST_WINDOW:
        raise ValueError("completionWindow must be a time such as 90m, 24h or 7d, from 60s to 7d")
    return window


def _read_metadata(value: Any) -> Any:
    """Parse the JSON of an object too: a query and a form have no objects."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("metadata must be a JSON object") from None


WindowText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}[smhd]$")]
Window = Annotated[timedelta, BeforeValidator(_read_window, json_schema_input_type=WindowText)]
Name = Annotated[Text, StringConstraints(max_length=MAX_NAME_LENGTH), VISIBLE]
WebhookUrl = Annotated[Text, StringConstraints(max_length=MAX_URL_LENGTH)]
Labels = Annotated[
    Metadata | None, BeforeValidator(_read_metadata, json_schema_input_type=Metadata | None)
]


class RetryOptions(Body):
    """Options of a retry of a batch's unsuccessful lines; an omitted one keeps its value.

    Attributes:
        name: the name of the batch.
        completion_window: lines that have not begun within it expire: `90m`, `24h`, 60 s to 7 d.
        webhook_url: receives the event of the batch's end.
        metadata: your own labels; the batch repeats them.
    """

    name: Name | None = None
    completion_window: Window | None = None
    webhook_url: WebhookUrl | None = None
    metadata: Labels = None


class BatchOptions(RetryOptions):
    """Options of a new batch beside its file.

    Attributes:
        on_error: `skip` accepts the valid lines, and counts the others as failed.
    """

    on_error: OnError = OnError.REJECT
    completion_window: Annotated[Window, Field(json_schema_extra={"default": "24h"})] = (
        DEFAULT_WINDOW
    )


class BatchForm(Body):
    """A form with a file, for `multipart/form-data`.

    Attributes:
        file: the file, with a filename.
        name: the name of the batch.
        on_error: `skip` accepts the valid lines, and counts the others as failed.
        completion_window: lines that have not begun within it expire: `90m`, `24h`, 60 s to 7 d.
        webhook_url: receives the event of the batch's end.
        metadata: your own labels, a JSON object; the batch repeats them.
    """

    file: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/jsonl"})]
    name: Name | None = None
    on_error: OnError = OnError.REJECT
    completion_window: WindowText = "24h"
    webhook_url: WebhookUrl | None = None
    metadata: str | None = None
