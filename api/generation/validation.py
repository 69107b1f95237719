"""What a generation must keep to be taken, alone or as a line of a file, beside its own fields'
ranges: this service's limits and the model's context.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.config.settings import Settings
from core.errors import ContextLengthExceeded, InvalidRequest, NotFound
from core.generation import Generation
from core.webhooks.target import check_webhook_url

#: Tokens and log probabilities that one result may have: about 10 MB of JSON.
MAX_RESULT_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What a face calls the fields that a refusal names.

    Attributes:
        inside: the field that all of them are in, where they are in one.
    """

    max_tokens: str = "maxTokens"
    min_tokens: str = "minTokens"
    logprobs: str = "logprobs"
    parent: str | None = None


NATIVE_NAMES = FieldNames()


def check_generation(
    settings: Settings, generation: Generation, names: FieldNames = NATIVE_NAMES
) -> None:
    """Check what can be checked without the prompt's tokens.

    Raises:
        NotFound: another model was asked for.
        InvalidRequest: a value is out of this service's range.
    """
    if generation.model not in {None, settings.model_name}:
        raise NotFound(
            f"this service has the model {settings.model_name}",
            code="model_not_found",
            param="model",
        )
    if generation.max_tokens > settings.max_tokens_limit:
        raise InvalidRequest(
            f"{names.max_tokens} must be at most {settings.max_tokens_limit}",
            param=names.max_tokens,
        )
    most = max_result_tokens(generation)
    if generation.max_tokens > most:
        tokens = names.min_tokens if generation.min_tokens > most else names.max_tokens
        raise InvalidRequest(
            f"n times {tokens} times (1 + {names.logprobs}) must be at most "
            f"{MAX_RESULT_ENTRIES}, the tokens and log probabilities of one answer: here it is "
            f"{generation.n * generation.max_tokens * (1 + (generation.logprobs or 0))}",
            param=names.logprobs if generation.logprobs else "n",
        )
    if generation.webhook_url is not None:
        check_webhook_url(generation.webhook_url, settings)


def max_result_tokens(generation: Generation) -> int:
    """Return the most tokens that each answer may have so that the result is not too large."""
    return MAX_RESULT_ENTRIES // (generation.n * (1 + (generation.logprobs or 0)))


def shorten(generation: Generation, room: int) -> Generation:
    """Return the generation with at most `room` tokens for each answer, but at least as many as it
    must have.
    """
    if generation.max_tokens <= room:
        return generation
    return generation.model_copy(update={"max_tokens": max(1, generation.min_tokens, room)})


def check_context(context_length: int, generation: Generation, prompt_tokens: int | None) -> int:
    """Check that prompt and answer fit into the model's context; return the prompt's tokens.

    Args:
        prompt_tokens: `None` if they are more than the context, whoever has counted.

    Raises:
        ContextLengthExceeded: they do not fit.
    """
    most = generation.max_tokens
    if prompt_tokens is not None and prompt_tokens + most <= context_length:
        return prompt_tokens
    counted = f"more than {context_length}" if prompt_tokens is None else str(prompt_tokens)
    # Clients of OpenAI's know this error by the words it begins with.
    raise ContextLengthExceeded(
        f"this model's maximum context length is {context_length} tokens, but the prompt has "
        f"{counted} and the answer may have {most}",
        param="prompt" if generation.prompt is not None else "messages",
    )
