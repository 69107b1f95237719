"""What a generation must keep to be taken, alone or as a line of a file, beside its own fields'
ranges: this service's limits and the model's context.
"""

from __future__ import annotations

from core.errors import ContextLengthExceeded, InvalidRequest, NotFound
from core.generation import Generation
from core.settings import Settings
from core.webhook_target import check_webhook_url

#: Tokens and log probabilities that one result may have: about 10 MB of JSON.
MAX_RESULT_ENTRIES = 200_000


def check_generation(settings: Settings, generation: Generation) -> None:
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
            f"maxTokens must be at most {settings.max_tokens_limit}", param="maxTokens"
        )
    if generation.n * generation.max_tokens * (1 + (generation.logprobs or 0)) > MAX_RESULT_ENTRIES:
        raise InvalidRequest(
            f"n times maxTokens times (1 + logprobs) must be at most {MAX_RESULT_ENTRIES}",
            param="logprobs" if generation.logprobs else "n",
        )
    if generation.webhook_url is not None:
        check_webhook_url(generation.webhook_url, settings)


def check_length(context_length: int, generation: Generation, prompt_tokens: int) -> None:
    """Check that prompt and answer fit into the model's context.

    Raises:
        ContextLengthExceeded: they cannot.
    """
    most = generation.max_tokens
    if prompt_tokens + most > context_length or generation.min_tokens > most:
        # Clients of OpenAI's know this error by the words it begins with.
        raise ContextLengthExceeded(
            f"this model's maximum context length is {context_length} tokens, but the prompt has "
            f"{prompt_tokens} and the answer may have {max(most, generation.min_tokens)}",
            param="prompt" if generation.prompt is not None else "messages",
        )
