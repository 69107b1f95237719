"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from api.v1.generation.body import GenerationBody
from api.v1.generation.ignored_fields import Ignored, OpenAIBody, reject_unless
from core.generation import (
    MAX_MESSAGES,
    ChatMessage,
    Flag,
    LogprobCount,
    TokenCount,
    TurnName,
    TurnText,
    no_longer_than,
)

#: OpenAI's newer models use the role `developer` for `system`, which chat templates know.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
#: Roles of turns with the results of functions.
_TOOL_ROLES = ("tool", "function")


def _join_parts(content: Any) -> Any:
    """Join content that came in parts to one text, as vLLM does."""
    if content is None:
        raise ValueError("content must be text")
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise ValueError("content must be text: parts of other types are not supported")
        if not isinstance(part.get("text"), str):
            raise ValueError("content must be text: each part needs its `text`")
        texts.append(part["text"])
    return "\n".join(texts)


def _known_role(role: Any) -> Any:
    if isinstance(role, str) and role in _ROLES:
        return _ROLES[role]
    if isinstance(role, str) and role.lower() in _ROLES:
        raise ValueError(f"role must be in lower case: {role.lower()}")
    if role in _TOOL_ROLES:
        raise ValueError(f"role {role} is not supported: this service calls no functions")
    raise ValueError("role must be system, developer, user or assistant")


class TextPart(BaseModel):
    """A part of a turn's content; line breaks join the parts."""

    type: Literal["text"]
    text: TurnText


GivenRole = Literal["system", "developer", "user", "assistant"]
GivenContent = TurnText | list[TextPart]


class ChatTurn(OpenAIBody):
    """One turn; the message of a response can be sent back unchanged."""

    role: Annotated[str, BeforeValidator(_known_role, json_schema_input_type=GivenRole)]
    content: Annotated[TurnText, BeforeValidator(_join_parts, json_schema_input_type=GivenContent)]
    name: TurnName | None = None
    refusal: Annotated[Any, reject_unless()] = None
    audio: Annotated[Any, reject_unless()] = None
    annotations: Annotated[Any, reject_unless([])] = None
    tool_calls: Annotated[Any, reject_unless([])] = None
    function_call: Annotated[Any, reject_unless()] = None

    def to_message(self) -> ChatMessage:
        named = {} if self.name is None else {"name": self.name}
        return ChatMessage.model_validate({"role": self.role, "content": self.content, **named})


class ChatBody(GenerationBody):
    """Turns of a chat; the completion is the assistant's next turn.

    Without a maximum it may be as long as the context has room for.
    """

    logprobs_name: ClassVar[str] = "top_logprobs"

    messages: Annotated[
        tuple[ChatTurn, ...],
        Field(max_length=MAX_MESSAGES, json_schema_extra={"minItems": 1}),
        no_longer_than(MAX_MESSAGES),
    ]
    max_completion_tokens: TokenCount | None = None
    logprobs: Flag | None = None
    top_logprobs: LogprobCount | None = None

    audio: Annotated[Any, reject_unless()] = None
    function_call: Annotated[Any, reject_unless("none", "auto")] = None
    functions: Annotated[Any, reject_unless([])] = None
    modalities: Annotated[Any, reject_unless(["text"])] = None
    moderation: Annotated[Any, reject_unless()] = None
    prediction: Annotated[Any, reject_unless()] = None
    reasoning_effort: Annotated[Any, reject_unless("none")] = None
    response_format: Annotated[Any, reject_unless({"type": "text"})] = None
    tool_choice: Annotated[Any, reject_unless("none", "auto")] = None
    tools: Annotated[Any, reject_unless([])] = None
    verbosity: Annotated[Any, reject_unless("medium")] = None
    web_search_options: Annotated[Any, reject_unless()] = None
    #: Affects `tools` only.
    parallel_tool_calls: Ignored = None

    @field_validator("messages", mode="before")
    @classmethod
    def _at_least_one(cls, value: Any) -> Any:
        # A lower bound of the field would also apply when every turn is invalid.
        if value == []:
            raise ValueError("messages must not be empty")
        return value

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_maximum(cls, value: int | None, info: ValidationInfo) -> int | None:
        other = info.data.get("max_tokens")
        if value is not None and other is not None and value != other:
            raise ValueError("max_completion_tokens and max_tokens must be equal if both are given")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _need_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("top_logprobs is only for requests with logprobs: true")
        return value

    @property
    def requested_max_tokens(self) -> tuple[str, int | None]:
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens

    @property
    def requested_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def prompt_fields(self) -> dict[str, Any]:
        return {"messages": tuple(turn.to_message() for turn in self.messages)}
