"""The schemas of responses of `/v1` for the published document; see `api/responses`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from api.responses.base import SnakeCaseSchema

FinishReason = Literal["stop", "length"]
ChatId = Annotated[str, Field(pattern="^chatcmpl-[0-9a-f]{32}$")]
CompletionId = Annotated[str, Field(pattern="^cmpl-[0-9a-f]{32}$")]


class PromptTokensDetails(SnakeCaseSchema):
    cached_tokens: NonNegativeInt


class OpenAIUsage(SnakeCaseSchema):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    total_tokens: NonNegativeInt
    prompt_tokens_details: PromptTokensDetails


class OpenAIHead(SnakeCaseSchema):
    created: NonNegativeInt
    model: str
    system_fingerprint: None


class CompletionLogprobs(SnakeCaseSchema):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]]
    text_offset: list[NonNegativeInt]


class CompletionChoice(SnakeCaseSchema):
    index: NonNegativeInt
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class OpenAICompletion(OpenAIHead):
    id: CompletionId
    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: OpenAIUsage


class CompletionChunkChoice(SnakeCaseSchema):
    index: NonNegativeInt
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionChunk(OpenAIHead):
    """One event of a stream.

    Attributes:
        usage: with `stream_options.include_usage`; null except in the last event.
    """

    id: CompletionId
    object: Literal["text_completion"]
    choices: list[CompletionChunkChoice]
    usage: OpenAIUsage | None = None


class TokenChance(SnakeCaseSchema):
    """A token and its log probability.

    Attributes:
        token: its text; for a part of a character its bytes, as `bytes:\\xf0\\x9f`.
        bytes: those that the token adds to the text; null for a part of a character in old results.
    """

    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(TokenChance):
    top_logprobs: list[TokenChance]


class ChatLogprobs(SnakeCaseSchema):
    content: list[ChatToken]
    refusal: None


class AssistantMessage(SnakeCaseSchema):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(SnakeCaseSchema):
    index: NonNegativeInt
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(OpenAIHead):
    id: ChatId
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: OpenAIUsage


class ChatDelta(SnakeCaseSchema):
    role: Literal["assistant"] = "assistant"
    content: str = ""
    refusal: None = None


class ChatChunkChoice(SnakeCaseSchema):
    index: NonNegativeInt
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(OpenAIHead):
    """One event of a stream.

    Attributes:
        usage: with `stream_options.include_usage`; null except in the last event.
    """

    id: ChatId
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: OpenAIUsage | None = None


class OpenAIModel(SnakeCaseSchema):
    """A model.

    Attributes:
        max_model_len: tokens of prompt and completion together, as in vLLM.
    """

    id: str
    object: Literal["model"]
    created: NonNegativeInt
    owned_by: str
    max_model_len: NonNegativeInt


class OpenAIModelList(SnakeCaseSchema):
    object: Literal["list"]
    data: list[OpenAIModel]
