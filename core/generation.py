"""Defines and validates the request of a generation.

It is validated once in the API, stored in the job's row, and loaded by the worker. Field names are
camelCase outside; snake_case is accepted too.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticKnownError

from core.config.settings import PromptMode
from core.integer_field import Whole

MAX_STOP_STRINGS = 8
MAX_STOP_LENGTH = 256
MAX_CHOICES = 8
MAX_LOGPROBS = 20
MAX_MESSAGES = 1024
DEFAULT_MAX_TOKENS = 500
DEFAULT_TEMPERATURE = 0.7
MAX_LABELS = 16
MAX_LABEL_LENGTH = 512
MAX_URL_LENGTH = 2048
MAX_TTL_SECONDS = 7 * 24 * 3600

#: The validation context's key for the most tokens of a completion.
MOST_TOKENS = "most_tokens"
#: Replaces 0, which leaves only the most likely token: the engine needs a positive value.
LEAST_TOP_P = 1e-12


def _above_zero(top_p: float) -> float:
    return max(top_p, LEAST_TOP_P)


def _within_limit(tokens: int, info: ValidationInfo) -> int:
    most = (info.context or {}).get(MOST_TOKENS, tokens)
    if tokens > most:
        raise PydanticKnownError("less_than_equal", {"le": most})
    return tokens


def no_longer_than(most: int) -> BeforeValidator:
    """Return a validator that rejects a list or an object with more than `most` entries.

    It checks no entry: each faulty entry costs time, and a body has room for half a million.
    """

    def check(value: Any) -> Any:
        if isinstance(value, Sized) and not isinstance(value, str) and len(value) > most:
            details = {"field_type": "List", "max_length": most, "actual_length": len(value)}
            raise PydanticKnownError("too_long", details)
        return value

    return BeforeValidator(check)


def _without_empty(stop: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(filter(None, stop))


#: PostgreSQL's text cannot hold NUL.
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]+$")]
Label = Annotated[str, StringConstraints(max_length=MAX_LABEL_LENGTH, pattern=r"^[^\x00]*$")]
#: A message of a chat may be empty: the chat template still renders a prompt.
TurnText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
TurnName = Annotated[Text, StringConstraints(max_length=64)]
#: Forms send empty strings, which are dropped.
StopString = Annotated[str, StringConstraints(max_length=MAX_STOP_LENGTH, pattern=r"^[^\x00]*$")]
StopStrings = Annotated[
    tuple[StopString, ...],
    Field(max_length=MAX_STOP_STRINGS),
    AfterValidator(_without_empty),
    no_longer_than(MAX_STOP_STRINGS),
]
#: The forms that callers may use.
GivenStop = StopString | StopStrings | None
ModelName = Annotated[str, StringConstraints(max_length=200)]
Metadata = Annotated[dict[Label, Label], Field(max_length=MAX_LABELS), no_longer_than(MAX_LABELS)]

#: Strict JSON types: "1" is not a number, and 1 is not `true`.
Real = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
TokenCount = Annotated[int, Whole(ge=1), AfterValidator(_within_limit)]
Temperature = Annotated[Real, Field(ge=0, le=2)]
TopP = Annotated[Real, Field(ge=0, le=1), AfterValidator(_above_zero)]
TopK = Annotated[int, Whole(ge=0, le=2**20)]
MinP = Annotated[Real, Field(ge=0, le=1)]
Penalty = Annotated[Real, Field(ge=-2, le=2)]
RepetitionPenalty = Annotated[Real, Field(gt=0, le=10)]
MinTokens = Annotated[int, Whole(ge=0)]
Seed = Annotated[int, Whole(ge=0, le=2**63 - 1)]
LogprobCount = Annotated[int, Whole(ge=0, le=MAX_LOGPROBS)]
ChoiceCount = Annotated[int, Whole(ge=1, le=MAX_CHOICES)]


class Body(BaseModel):
    """The base of every request body: camelCase or snake_case, no unknown fields, no infinities."""

    #: A body with a prompt may be larger than others.
    may_be_large: ClassVar[bool] = False

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class ChatMessage(Body):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: TurnText
    name: TurnName | None = None


def _describe(schema: dict[str, Any]) -> None:
    """Add to the schema that exactly one of `prompt` and `messages` is given, and an example.

    `oneOf` is not used: documentation pages would show the two cases and nothing else.
    """
    given = {name: {"not": {"type": "null"}} for name in ("prompt", "messages")}
    schema["if"] = {"required": ["prompt"], "properties": {"prompt": given["prompt"]}}
    schema["then"] = {"properties": {"messages": {"type": "null"}}}
    schema["else"] = {"required": ["messages"], "properties": {"messages": given["messages"]}}
    schema["examples"] = [{"prompt": "Write a function that adds two numbers", "maxTokens": 160}]


class Generation(Body):
    """The parameters of a generation. `None` means the model's own default, if it has one.

    Attributes:
        prompt: exactly one of `prompt` and `messages` is given.
        prompt_mode: how `prompt` is used; `None` for the mode of the settings.
        messages: a chat, for the model's chat template.
        max_tokens: the most tokens of one completion.
        temperature: 0 takes the most likely token each time.
        top_p: 0 takes the most likely token each time.
        top_k: 0 keeps all tokens.
        seed: the seed of the sampling noise; the job's id by default. The same seed nearly always
            gives the same completion: requests that share a step change the last bits of scores,
            and so sometimes a token.
        logprobs: the number of most likely tokens to report at each position; 0 for the sampled
            token only.
        n: the number of completions.
        stop: strings that end a completion and are not part of it.
        stream: send the text while it is generated.
        metadata: the caller's own labels, which are returned with the job.
        webhook_url: the receiver of a message at the job's end.
        cache: a cached completion of the same request may be used, if it is deterministic.
        ttl_seconds: the job expires unless it has started by then.
    """

    may_be_large: ClassVar[bool] = True
    model_config = ConfigDict(json_schema_extra=_describe)

    prompt: Text | None = None
    prompt_mode: PromptMode | None = None
    messages: (
        Annotated[
            tuple[ChatMessage, ...],
            Field(min_length=1, max_length=MAX_MESSAGES),
            no_longer_than(MAX_MESSAGES),
        ]
        | None
    ) = Field(None, validate_default=True)
    max_tokens: TokenCount = DEFAULT_MAX_TOKENS
    temperature: Temperature = DEFAULT_TEMPERATURE
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: MinTokens = 0
    ignore_eos: Flag = False
    seed: Seed | None = None
    logprobs: LogprobCount | None = None
    n: ChoiceCount = 1
    stop: StopStrings = ()
    model: ModelName | None = None
    stream: Flag = False
    metadata: Metadata | None = None
    webhook_url: Annotated[Text, StringConstraints(max_length=MAX_URL_LENGTH)] | None = None
    cache: Flag = False
    ttl_seconds: Annotated[int, Whole(ge=1, le=MAX_TTL_SECONDS)] | None = None

    @field_validator("stop", mode="before", json_schema_input_type=GivenStop)
    @classmethod
    def _one_stop_string_is_a_list(cls, value: Any) -> Any:
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    # Field validators, because they report their faults together with those of other fields.
    @field_validator("messages")
    @classmethod
    def _one_of_both(cls, value: Any, info: ValidationInfo) -> Any:
        if "prompt" in info.data and (info.data["prompt"] is None) == (value is None):
            raise ValueError("give exactly one of `prompt` and `messages`")
        if value is not None and info.data.get("prompt_mode") is not None:
            raise ValueError("promptMode is for `prompt`, not for `messages`")
        return value

    @field_validator("min_tokens")
    @classmethod
    def _within_max_tokens(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("max_tokens", value):
            raise ValueError("minTokens must not be more than maxTokens")
        return value

    @property
    def is_deterministic(self) -> bool:
        """Whether sampling is reproducible, apart from the effects of shared steps."""
        return self.temperature == 0 or self.seed is not None

    def to_row(self) -> dict[str, Any]:
        """Return the value for the job's row: only the given fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Generation:
        return cls.model_validate(row)
