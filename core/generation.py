"""A generation as a customer asks for it: validated once at the edge, kept in the job's row, read
back by the worker. Field names outside are camelCase; snake_case is taken too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic import model_validator as _model_validator
from pydantic.alias_generators import to_camel

from core.settings import PromptMode

MAX_STOP_STRINGS = 8
MAX_STOP_LENGTH = 256
MAX_CHOICES = 8
MAX_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 500
DEFAULT_TEMPERATURE = 0.7
MAX_LABELS = 16
MAX_LABEL_LENGTH = 512
MAX_URL_LENGTH = 2048
MAX_TTL_SECONDS = 7 * 24 * 3600

#: PostgreSQL's text cannot hold NUL.
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]+$")]
Label = Annotated[str, StringConstraints(max_length=MAX_LABEL_LENGTH, pattern=r"^[^\x00]*$")]
#: A turn of a chat may be empty: the chat template makes a prompt of it all the same.
TurnText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
TurnName = Annotated[Text, StringConstraints(max_length=64)]
StopString = Annotated[Text, StringConstraints(max_length=MAX_STOP_LENGTH)]
StopStrings = Annotated[tuple[StopString, ...], Field(max_length=MAX_STOP_STRINGS)]
#: As callers may write them.
GivenStop = StopString | StopStrings | None
ModelName = Annotated[str, StringConstraints(max_length=200)]
Metadata = Annotated[dict[Label, Label], Field(max_length=MAX_LABELS)]

#: What JSON writes as a number or a truth: no digits in quotation marks, no 1 for `true`.
Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
TokenCount = Annotated[Whole, Field(ge=1)]
Temperature = Annotated[Real, Field(ge=0, le=2)]
TopP = Annotated[Real, Field(gt=0, le=1)]
TopK = Annotated[Whole, Field(ge=0, le=2**20)]
MinP = Annotated[Real, Field(ge=0, le=1)]
Penalty = Annotated[Real, Field(ge=-2, le=2)]
RepetitionPenalty = Annotated[Real, Field(gt=0, le=10)]
MinTokens = Annotated[Whole, Field(ge=0)]
Seed = Annotated[Whole, Field(ge=0, le=2**63 - 1)]
LogprobCount = Annotated[Whole, Field(ge=0, le=MAX_LOGPROBS)]
ChoiceCount = Annotated[Whole, Field(ge=1, le=MAX_CHOICES)]


class Body(BaseModel):
    """The base of every request body: camelCase or snake_case, nothing unknown, no infinities."""

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
        top_k: 0 keeps all tokens.
        seed: the same seed gives the same answer; without one the job's id is the seed.
        logprobs: how many of the most likely tokens to report at each place; 0 for the drawn only.
        n: answers to draw from one prompt.
        stop: where an answer ends; the string itself is not part of it.
        stream: send the text as it is made.
        metadata: the caller's own labels; they come back with the job.
        webhook_url: who is told of the end.
        cache: an answer to the same deterministic request may be given again.
        ttl_seconds: the job expires unless it has begun by then.
    """

    model_config = ConfigDict(json_schema_extra=_describe)

    prompt: Text | None = None
    prompt_mode: PromptMode | None = None
    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1, max_length=1024)] | None = None
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
    ttl_seconds: Annotated[Whole, Field(ge=1, le=MAX_TTL_SECONDS)] | None = None

    @field_validator("stop", mode="before", json_schema_input_type=GivenStop)
    @classmethod
    def _one_stop_string_is_a_list(cls, value: Any) -> Any:
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    @_model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of `prompt` and `messages`")
        if self.messages is not None and self.prompt_mode is not None:
            raise ValueError("promptMode is for `prompt`, not for `messages`")
        if self.min_tokens > self.max_tokens:
            raise ValueError("minTokens must not be more than maxTokens")
        return self

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request always has the same answer."""
        return self.temperature == 0 or self.seed is not None

    def to_row(self) -> dict[str, Any]:
        """Return what the job's row keeps: only what was said."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Generation:
        return cls.model_validate(row)
