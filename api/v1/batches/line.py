"""OpenAI's format of a batch line: a call of `/v1` with a custom id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from api.batches.line_reader import MAX_CUSTOM_ID_LENGTH, LineParser, LineRequest, prefix_fields
from api.http.json_input import read_json
from api.services import Services
from api.v1.generation.body import GenerationBody
from api.v1.generation.chat_body import ChatBody
from api.v1.generation.completion_body import CompletionBody
from api.v1.generation.ignored_fields import OpenAIBody
from api.v1.generation.views import default_temperature
from core.errors import InvalidRequest
from core.generation import Text

NOT_OPENAI = (
    "it is not a line of OpenAI's format, which has custom_id, method, url and body: send plain "
    "requests to POST /api/llm/batches"
)
NO_STREAM = "body.stream is not allowed in a batch line: read the batch's output file"


class Endpoint(StrEnum):
    """The call that all lines of a batch make."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"


def _post(value: Any) -> Any:
    if value != "POST":
        raise ValueError("method must be POST")
    return value


def _same_as(endpoint: Endpoint) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value != endpoint.value:
            raise ValueError(f"url must be {endpoint}, the batch's endpoint")
        return endpoint

    schema = WithJsonSchema({"const": endpoint.value})
    return BeforeValidator(check, json_schema_input_type=Annotated[Any, schema])


class OpenAILine(OpenAIBody):
    """The common fields of lines of both endpoints.

    Attributes:
        custom_id: your own name for the line, unique in the file; the result repeats it.
    """

    custom_id: Annotated[Text, StringConstraints(max_length=MAX_CUSTOM_ID_LENGTH)]
    method: Annotated[Literal["POST"], BeforeValidator(_post)]


class ChatLine(OpenAILine):
    url: Annotated[Endpoint, _same_as(Endpoint.CHAT)]
    body: ChatBody


class CompletionLine(OpenAILine):
    url: Annotated[Endpoint, _same_as(Endpoint.COMPLETIONS)]
    body: CompletionBody


_KINDS: dict[Endpoint, type[ChatLine] | type[CompletionLine]] = {
    Endpoint.CHAT: ChatLine,
    Endpoint.COMPLETIONS: CompletionLine,
}


def line_parser(endpoint: Endpoint, services: Services) -> LineParser:
    """Return the parser of batch lines for this endpoint."""
    kind = _KINDS[endpoint]
    to_generation = _generations(services)

    def read(data: bytes) -> LineRequest:
        line = _read(kind, data)
        if line.body.stream:
            raise InvalidRequest(NO_STREAM, param="body.stream")
        return to_generation(line.custom_id, line.body)

    return read


def _read(kind: type[ChatLine] | type[CompletionLine], data: bytes) -> ChatLine | CompletionLine:
    try:
        return read_json(kind, data, of="it", is_line=True)
    except InvalidRequest as error:
        if {"url", "body"} <= {fault.param for fault in error.fields}:
            raise InvalidRequest(NOT_OPENAI) from None
        raise


def _generations(services: Services) -> Callable[[str, GenerationBody], LineRequest]:
    most_tokens = services.settings.max_tokens_limit
    temperature = default_temperature(services)

    def make(custom_id: str, body: GenerationBody) -> LineRequest:
        names = replace(body.names, parent="body")
        with prefix_fields(names):
            generation = body.to_generation(most_tokens=most_tokens, temperature=temperature)
        may_shorten = body.requested_max_tokens[1] is None
        return LineRequest(custom_id, generation, may_shorten=may_shorten, names=names)

    return make
