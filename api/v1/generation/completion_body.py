"""The body of `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from api.v1.generation.body import GenerationBody
from api.v1.generation.ignored_fields import reject_unless
from core.config.settings import PromptMode
from core.generation import LogprobCount, Text
from core.integer_field import Whole

#: Some clients send a list of one prompt.
GivenPrompt = Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=1)]


class CompletionBody(GenerationBody):
    """One prompt, completed as it is: `PROMPT_MODE` applies no chat template."""

    #: OpenAI's default.
    default_max_tokens: ClassVar[int | None] = 16

    prompt: Text
    logprobs: LogprobCount | None = None
    best_of: Annotated[int, Whole()] | None = None
    echo: Annotated[Any, reject_unless(False)] = None
    suffix: Annotated[Any, reject_unless("")] = None

    @field_validator("prompt", mode="before", json_schema_input_type=GivenPrompt)
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if len(value) == 1 and isinstance(value[0], str):
            return value[0]
        raise ValueError(
            "prompt must be one string: send one request for each prompt, and no token ids"
        )

    @field_validator("best_of")
    @classmethod
    def _keep_all(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value != (info.data.get("n") or 1):
            raise ValueError("best_of is not supported by this service unless it equals n")
        return value

    @property
    def requested_logprobs(self) -> int | None:
        return self.logprobs

    def prompt_fields(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "prompt_mode": PromptMode.RAW}
