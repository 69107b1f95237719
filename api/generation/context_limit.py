"""Whether a prompt and its answer fit: into the context, and into what the key may ever use."""

from __future__ import annotations

from api.generation.validation import check_context, shorten
from api.runtime.prompt_count import is_counted_apart
from api.services import Services
from core.errors import ContextLengthExceeded
from core.generation import Generation
from models.accounts.key_cache import PresentedKey


def measure(
    services: Services, key: PresentedKey, generation: Generation, *, may_shorten: bool
) -> tuple[Generation, int]:
    """Return the generation with an answer that fits, and the tokens of its prompt.

    A long prompt that does not fit was counted all the same: it takes one of the key's requests a
    minute. Otherwise somebody could have prompts counted without end and pay nothing.

    Raises:
        ContextLengthExceeded: prompt and answer cannot fit.
    """
    context = services.context_length()
    counted = services.prompts.counter.count(generation, most=context)
    if may_shorten and counted is not None:
        room = min(context - counted, _room_of_key(services, key, generation, counted))
        generation = shorten(generation, room)
    try:
        return generation, check_context(context, generation, counted)
    except ContextLengthExceeded:
        if is_counted_apart(generation):
            services.limits.limiter.count_request(key, recall=services.recall(key.id))
        raise


def _room_of_key(
    services: Services, key: PresentedKey, generation: Generation, prompt_tokens: int
) -> int:
    """Return the tokens that the key's limits can ever leave each answer, be all else given back.

    Of the month only what was used is gone for good: what is reserved may come back.
    """
    limits = [] if key.token_limit is None else [key.token_limit]
    if key.monthly_token_limit is not None:
        state = services.limits.limiter.read(key, recall=services.recall(key.id))
        limits.append(key.monthly_token_limit - state.used_in_month)
    rooms = [(limit - prompt_tokens) // generation.n for limit in limits]
    return min(rooms, default=generation.max_tokens)
