"""Caches the completions of deterministic requests that allow it (`cache: true`).

Redis keys:
    answer:{user id}:{digest}   JSON of `CachedCompletion`; lives RESPONSE_CACHE_SECONDS

Entries are cached per user. Sharing them would let one user learn, from response times, what
another user asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import redis
from redis.client import Pipeline

from core.config.settings import Settings
from core.generation import Generation

_log = logging.getLogger(__name__)

#: A larger entry is not stored.
MAX_BYTES = 1024**2
#: Fields of a request that do not change the completion.
_CIRCUMSTANCES = {"stream", "metadata", "webhook_url", "cache", "ttl_seconds", "model"}


@dataclass(frozen=True, slots=True)
class CachedCompletion:
    """The choices of a job that succeeded, and the tokens that it used."""

    choices: list[dict[str, Any]]
    prompt_tokens: int
    completion_tokens: int


class ResponseCache:
    """Stores completions for `seconds`, or nothing if that is 0.

    Args:
        model: names the model that generates them; entries of another model are never found.
    """

    def __init__(self, client: redis.Redis, *, model: str, seconds: int) -> None:
        self._client = client
        self._model = model
        self._seconds = seconds

    @classmethod
    def from_settings(cls, settings: Settings, client: redis.Redis) -> ResponseCache:
        model = f"{settings.model_name} {settings.model_path} {settings.prompt_mode}"
        return cls(client, model=model, seconds=settings.response_cache_seconds)

    def find(self, user_id: UUID, generation: Generation) -> CachedCompletion | None:
        """Return the cached completion of the same request, if there is one.

        Raises:
            redis.RedisError: Redis is away.
        """
        if not self._is_cacheable(generation):
            return None
        entry = self._client.get(self._key(user_id, generation))
        return CachedCompletion(**json.loads(entry)) if entry is not None else None

    def store(
        self,
        user_id: UUID,
        generation: Generation,
        completion: CachedCompletion,
        *,
        pipe: Pipeline | None = None,
    ) -> None:
        """Store a completion if its request allows it. If Redis is away, nothing is stored.

        Args:
            pipe: sends the command later, together with others.
        """
        if not self._is_cacheable(generation):
            return
        entry = json.dumps(asdict(completion))
        if len(entry) > MAX_BYTES:
            return
        client = self._client if pipe is None else pipe
        try:
            client.set(self._key(user_id, generation), entry, ex=self._seconds)
        except redis.RedisError:
            _log.warning("a completion could not be cached: Redis is away")

    def _is_cacheable(self, generation: Generation) -> bool:
        return generation.cache and generation.is_deterministic and self._seconds > 0

    def _key(self, user_id: UUID, generation: Generation) -> str:
        fields = generation.model_dump(mode="json", exclude=_CIRCUMSTANCES)
        text = json.dumps([self._model, fields], sort_keys=True)
        return f"answer:{user_id.hex}:{hashlib.sha256(text.encode()).hexdigest()}"
