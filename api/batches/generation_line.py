"""The native format of a batch line: a generation with a custom id."""

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
#: Fields that a batch line may not set, with the message that says what to do instead.
_REFUSED = {
    "stream": "stream is not allowed in a batch line: read the results of the batch",
    "webhook_url": "webhookUrl is not allowed in a batch line: set the webhookUrl of the batch",
    "cache": "cache is not allowed in a batch line: send the request alone",
    "ttl_seconds": "ttlSeconds is not allowed in a batch line: set the batch's completionWindow",
}


class GenerationLine(Generation):
    """One line of the file of a batch: a generation, without `stream`, `webhookUrl`, `cache` and
    `ttlSeconds`.

    Attributes:
        custom_id: your own name for the line, unique in the file; the result repeats it.
    """

    custom_id: CustomId | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the generation as the job's row stores it, without the custom id."""
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
    """Parse one line.

    Raises:
        InvalidRequest: the line is not valid.
    """
    line = _read(data)
    for name in _REFUSED.keys() & line.model_fields_set:
        if getattr(line, name) != GenerationLine.model_fields[name].default:
            param = GenerationLine.model_fields[name].alias
            raise InvalidRequest(_REFUSED[name], param=param)
    return LineRequest(line.custom_id, line)
