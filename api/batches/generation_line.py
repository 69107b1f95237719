"""A line of our own files: a generation with a name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import StringConstraints

from api.batches.line_reader import MAX_CUSTOM_ID_LENGTH, LineRequest
from api.http.json_input import read_json
from core.errors import InvalidRequest
from core.generation import Generation, Text

CustomId = Annotated[Text, StringConstraints(max_length=MAX_CUSTOM_ID_LENGTH)]

_OPENAI = (
    "it is a line of OpenAI's format: upload the file by POST /v1/files and make the batch by "
    'POST /v1/batches, or send plain requests here, such as {"prompt": "…"}'
)
#: What a line may not ask for, with what to do instead.
_REFUSED = {
    "stream": "stream is not for lines of a file: read the results of the batch",
    "webhook_url": "webhookUrl is not for lines of a file: give the batch one",
    "cache": "cache is not for lines of a file: send the request alone",
    "ttl_seconds": "ttlSeconds is not for lines of a file: give the batch a completionWindow",
}


class GenerationLine(Generation):
    """One line of the file of a batch: a generation, without `stream`, `webhookUrl`, `cache` and
    `ttlSeconds`.

    Attributes:
        custom_id: your own name for the line, once in a file; it comes back with the result.
    """

    custom_id: CustomId | None = None

    def to_row(self) -> dict[str, Any]:
        """Return what the job's row keeps: the generation."""
        row = super().to_row()
        row.pop("customId", None)
        return row


def _read(data: bytes) -> GenerationLine:
    try:
        return read_json(GenerationLine, data, of="it", is_line=True)
    except InvalidRequest as error:
        if {"url", "body"} <= {fault.param for fault in error.fields}:
            raise InvalidRequest(_OPENAI) from None
        raise


def read_generation_line(data: bytes) -> LineRequest:
    """Return what a line asks for.

    Raises:
        InvalidRequest: what is wrong with it.
    """
    line = _read(data)
    for name in _REFUSED.keys() & line.model_fields_set:
        if getattr(line, name) != GenerationLine.model_fields[name].default:
            param = GenerationLine.model_fields[name].alias
            raise InvalidRequest(_REFUSED[name], param=param)
    return LineRequest(line.custom_id, line)
