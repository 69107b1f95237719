"""A generation as a customer asks for it: validated once at the edge, kept in the job's row, read
back by the worker. Field names outside are camelCase; snake_case is taken too.
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
from core.parsing import Whole

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

#: In the context of a validation: the most tokens that an answer of this service may have.
MOST_TOKENS = "most_tokens"
#: What 0 becomes, which leaves the most likely token alone: workers want more than nothing.
LEAST_TOP_P = 1e-12


def _above_zero(top_p: float) -> float:
    return max(top_p, LEAST_TOP_P)


def _within_limit(tokens: int, info: ValidationInfo) -> int:
    most = (info.context or {}).get(MOST_TOKENS, tokens)
    if tokens > most:
        raise PydanticKnownError("less_than_equal", {"le": most})
    return tokens


def no_longer_than(most: int) -> BeforeValidator:
    """Return a validator that looks at no entry of a list or an object with more than `most`.

    Otherwise each entry that is at fault costs time, and a body has room for half a million.
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
#: A turn of a chat may be empty: the chat template makes a prompt of it all the same.
TurnText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
TurnName = Annotated[Text, StringConstraints(max_length=64)]
#: Forms send empty ones, which stop nothing and are left out.
StopString = Annotated[str, StringConstraints(max_length=MAX_STOP_LENGTH, pattern=r"^[^\x00]*$")]
StopStrings = Annotated[
    tuple[StopString, ...],
    Field(max_length=MAX_STOP_STRINGS),
    AfterValidator(_without_empty),
    no_longer_than(MAX_STOP_STRINGS),
]
#: As callers may write them.
GivenStop = StopString | StopStrings | None
ModelName = Annotated[str, StringConstraints(max_length=200)]
Metadata = Annotated[dict[Label, Label], Field(max_length=MAX_LABELS), no_longer_than(MAX_LABELS)]

#: What JSON writes as a number or a truth: no digits in quotation marks, no 1 for `true`.
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
    """The base of every request body: camelCase or snake_case, nothing unknown, no infinities."""

    #: It holds a prompt: it may have as many bytes as any body.
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
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: TurnText
    name: TurnName | None = None


def _describe(schema: dict[str, Any]) -> None:
    """Say in the schema that exactly one of `prompt` and `messages` is given, and show a request.

    Not as `oneOf`: pages that show schemas would show the two cases and nothing else.
    """
    given = {name: {"not": {"type": "null"}} for name in ("prompt", "messages")}
    schema["if"] = {"required": ["prompt"], "properties": {"prompt": given["prompt"]}}
    schema["then"] = {"properties": {"messages": {"type": "null"}}}
    schema["else"] = {"required": ["messages"], "properties": {"messages": given["messages"]}}
    schema["examples"] = [{"prompt": "Write a function that adds two numbers", "maxTokens": 160}]


class Generation(Body):
    """What to generate. `None` means the model's own default, where it has one.

    Attributes:
        prompt: exactly one of this and `messages` is given.
        prompt_mode: what becomes of `prompt`; `None` for what the service's settings say.
        messages: a chat, for the model's chat template.
        max_tokens: of one answer.
        temperature: 0 takes the most likely token each time.
        top_p: 0 takes the most likely token each time.
        top_k: 0 keeps all tokens.
        seed: decides the noise of each draw; without one the job's id is the seed. The same seed
            nearly always gives the same answer: requests that share a step change the last bits of
            scores, and so now and then a token.
        logprobs: how many of the most likely tokens to report at each place; 0 for the drawn only.
        n: answers to draw from one prompt.
        stop: where an answer ends; the string itself is not part of it.
        stream: send the text as it is made.
        metadata: the caller's own labels; they come back with the job.
        webhook_url: who is told of the end.
        cache: an answer to the same request may be given again, if chance had no part in it.
        ttl_seconds: the job expires unless it has begun by then.
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

    # Checks of fields, not of the model: they are told beside the faults of other fields.
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
        """Whether no draw is left to chance; what shares its steps may still change an answer."""
        return self.temperature == 0 or self.seed is not None

    def to_row(self) -> dict[str, Any]:
        """Return what the job's row keeps: only what was said."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Generation:
        return cls.model_validate(row)
