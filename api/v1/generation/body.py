"""The common fields of the bodies of both generating calls of `/v1`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import ValidationInfo, field_validator

from api.generation.validation import FieldNames
from api.v1.generation.ignored_fields import Ignored, OpenAIBody, reject_unless
from core.errors import InvalidRequest
from core.generation import (
    ChoiceCount,
    Flag,
    Generation,
    GivenStop,
    Metadata,
    MinP,
    MinTokens,
    ModelName,
    Penalty,
    RepetitionPenalty,
    StopStrings,
    Temperature,
    TokenCount,
    TopP,
)
from core.integer_field import Whole

#: OpenAI's seeds are any integers; those of the engine are at least 0 and below this.
_SEEDS = 2**63

#: Fields with the same name and meaning in a generation.
_SHARED_FIELDS = (
    "model",
    "temperature",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "n",
    "stop",
    "stream",
    "metadata",
)


class StreamOptions(OpenAIBody):
    """Options of a stream.

    Attributes:
        include_obfuscation: padding of OpenAI's events; the events of this service have none.
    """

    include_usage: Flag | None = None
    include_obfuscation: Ignored = None


class GenerationBody(OpenAIBody):
    """A generation in OpenAI's format, with vLLM's extra fields. `None` means not given.

    Attributes:
        top_k: as in vLLM, -1 and 0 keep all tokens.
    """

    may_be_large: ClassVar[bool] = True
    default_max_tokens: ClassVar[int | None] = None
    logprobs_name: ClassVar[str] = "logprobs"

    model: ModelName | None = None
    max_tokens: TokenCount | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: ChoiceCount | None = None
    stop: StopStrings | None = None
    seed: Annotated[int, Whole()] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None

    top_k: Annotated[int, Whole(ge=-1, le=2**20)] | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: MinTokens | None = None
    ignore_eos: Flag | None = None

    logit_bias: Annotated[Any, reject_unless({})] = None
    service_tier: Annotated[Any, reject_unless("auto", "default")] = None
    user: Ignored = None
    store: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None

    @field_validator("stop", mode="before", json_schema_input_type=GivenStop)
    @classmethod
    def _one_stop_string_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("stream_options")
    @classmethod
    def _need_a_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> Any:
        if value is not None and not info.data.get("stream"):
            raise ValueError("stream_options is only for requests with stream: true")
        return value

    @property
    def has_usage_chunk(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def requested_max_tokens(self) -> tuple[str, int | None]:
        """The name and the value of the field that limits the completion's tokens."""
        return "max_tokens", self.max_tokens

    @property
    def names(self) -> FieldNames:
        """The names of this call's fields for error messages."""
        return FieldNames(self.requested_max_tokens[0], "min_tokens", self.logprobs_name)

    @property
    @abstractmethod
    def requested_logprobs(self) -> int | None:
        """The number of most likely tokens to return for each position."""

    @abstractmethod
    def prompt_fields(self) -> dict[str, Any]:
        """Return the fields of a generation that hold the prompt."""

    def to_generation(self, *, most_tokens: int, temperature: float) -> Generation:
        """Return the body as a generation.

        Args:
            most_tokens: the most tokens that a completion of this service may have.
            temperature: the default for a request without one.

        Raises:
            InvalidRequest: the request asks for too many tokens.
        """
        name, asked = self.requested_max_tokens
        if asked is not None and asked > most_tokens:
            raise InvalidRequest(f"{name} must be at most {most_tokens}", param=name)
        max_tokens = asked or min(self.default_max_tokens or most_tokens, most_tokens)
        if (self.min_tokens or 0) > max_tokens:
            raise InvalidRequest(f"min_tokens must be at most {max_tokens}", param="min_tokens")
        values = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "logprobs": self.requested_logprobs,
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "seed": None if self.seed is None else self.seed % _SEEDS,
            **{
                name: getattr(self, name)
                for name in _SHARED_FIELDS
                if getattr(self, name) is not None
            },
            **self.prompt_fields(),
        }
        return Generation(**{name: value for name, value in values.items() if value is not None})
