"""Validates a generation, alone or as a batch line, beyond the ranges of its own fields.

The limits are those of this service, of the model's context, and of the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.runtime.prompt_count import needs_counting_thread
from api.services import Services
from core.config.settings import Settings
from core.errors import ContextLengthExceeded, InvalidRequest, NotFound
from core.generation import Generation
from core.webhooks.target import check_webhook_url
from models.accounts.key_cache import RequestKey

#: Tokens and log probabilities that one result may have: about 10 MB of JSON.
MAX_RESULT_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The names that the caller's API uses for fields in error messages.

    Attributes:
        parent: the field that contains all of them, if they are nested.
    """

    max_tokens: str = "maxTokens"
    min_tokens: str = "minTokens"
    logprobs: str = "logprobs"
    parent: str | None = None


NATIVE_NAMES = FieldNames()


@dataclass(frozen=True, slots=True)
class ValidatedGeneration:
    """A generation that may be charged, and the tokens of its prompt."""

    generation: Generation
    prompt_tokens: int


def validate(
    services: Services,
    key: RequestKey,
    generation: Generation,
    *,
    may_shorten: bool = False,
    names: FieldNames = NATIVE_NAMES,
) -> ValidatedGeneration:
    """Check a generation, count its prompt, and shorten its completions to fit.

    A long prompt that does not fit takes one of the key's requests a minute. Otherwise a caller
    could have long prompts counted without end at no charge.

    Args:
        may_shorten: the caller did not set `max_tokens`: lower it to the room that the context, the
            key's tokens of a minute or a month, and the size of a result leave.

    Raises:
        NotFound: the request names another model.
        InvalidRequest: a value is out of this service's range.
        ContextLengthExceeded: prompt and completion cannot fit into the context.
        redis.RedisError: the context of the workers or the key's use cannot be read.
    """
    if may_shorten:
        generation = shorten_to_result(generation)
    check_generation(services.settings, generation, names)
    context = services.context_length()
    counted = services.prompts.counter.count(generation, most=context)
    if may_shorten and counted is not None:
        limits = _token_limits(services, key)
        generation = shorten_to_fit(generation, counted, context, limits)
    try:
        return ValidatedGeneration(generation, check_context(context, generation, counted))
    except ContextLengthExceeded:
        if needs_counting_thread(generation):
            services.limits.limiter.count_request(key, recall=services.recall(key.id))
        raise


def check_generation(
    settings: Settings, generation: Generation, names: FieldNames = NATIVE_NAMES
) -> None:
    """Check everything that does not need the number of prompt tokens.

    Raises:
        NotFound: the generation names another model.
        InvalidRequest: a value is out of this service's range.
    """
    if generation.model not in {None, settings.model_name}:
        raise model_not_found(settings)
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
            f"{MAX_RESULT_ENTRIES}, the tokens and log probabilities of one result: here it is "
            f"{generation.n * generation.max_tokens * (1 + (generation.logprobs or 0))}",
            param=names.logprobs if generation.logprobs else "n",
        )
    if generation.webhook_url is not None:
        check_webhook_url(generation.webhook_url, settings)


def model_not_found(settings: Settings) -> NotFound:
    """Return the error for a request that names a model other than the served one."""
    return NotFound(
        f"this service has the model {settings.model_name}", code="model_not_found", param="model"
    )


def check_context(context_length: int, generation: Generation, prompt_tokens: int | None) -> int:
    """Check that prompt and completion fit into the context; return the prompt's tokens.

    Args:
        context_length: in tokens.
        prompt_tokens: `None` if the prompt has more tokens than the context.

    Raises:
        ContextLengthExceeded: prompt and completion do not fit.
    """
    most = generation.max_tokens
    if prompt_tokens is not None and prompt_tokens + most <= context_length:
        return prompt_tokens
    counted = f"more than {context_length}" if prompt_tokens is None else str(prompt_tokens)
    # OpenAI's clients recognize this error by its first words.
    raise ContextLengthExceeded(
        f"this model's maximum context length is {context_length} tokens, but the prompt has "
        f"{counted} and the completion may have {most}",
        param="prompt" if generation.prompt is not None else "messages",
    )


def max_result_tokens(generation: Generation) -> int:
    """Return the tokens that each completion may have within `MAX_RESULT_ENTRIES`."""
    return MAX_RESULT_ENTRIES // (generation.n * (1 + (generation.logprobs or 0)))


def shorten_to_result(generation: Generation) -> Generation:
    """Return the generation with completions that fit into one result."""
    return _shorten(generation, max_result_tokens(generation))


def shorten_to_fit(
    generation: Generation, prompt_tokens: int, context_length: int, token_limits: Iterable[int]
) -> Generation:
    """Return the generation with completions that fit into the context and the token limits.

    Args:
        token_limits: tokens that the prompt and all completions may have together.
    """
    rooms = [(limit - prompt_tokens) // generation.n for limit in token_limits]
    return _shorten(generation, min([context_length - prompt_tokens, *rooms]))


def _shorten(generation: Generation, room: int) -> Generation:
    """Lower `max_tokens` to `room`, but not below `min_tokens` or one."""
    if generation.max_tokens <= room:
        return generation
    return generation.model_copy(update={"max_tokens": max(1, generation.min_tokens, room)})


def _token_limits(services: Services, key: RequestKey) -> list[int]:
    """Return the tokens that the key's limits can ever leave one request.

    Of the month only used tokens count: reserved tokens may come back.
    """
    limits = [] if key.token_limit is None else [key.token_limit]
    if key.monthly_token_limit is not None:
        state = services.limits.limiter.read(key, recall=services.recall(key.id))
        limits.append(key.monthly_token_limit - state.used_in_month)
    return limits
