"""Answers to deterministic requests, kept for a while for those who allow it (`cache: true`).

Redis keys:
    answer:{user id}:{digest}   JSON of `CachedCompletion`; lives RESPONSE_CACHE_SECONDS

An answer is given again to its own user only: what others asked is nobody's to find out by timing.
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

#: A larger answer is not kept.
MAX_BYTES = 1024**2
#: What a request says beside what is to be generated.
_CIRCUMSTANCES = {"stream", "metadata", "webhook_url", "cache", "ttl_seconds", "model"}


@dataclass(frozen=True, slots=True)
class CachedCompletion:
    """The choices of a job that succeeded, and the tokens that it took."""

    choices: list[dict[str, Any]]
    prompt_tokens: int
    completion_tokens: int


class ResponseCache:
    """Keeps nothing when `seconds` is 0.

    Args:
        model: whose answers these are; another model's are not taken for them.
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
        """Return the answer to the same request, if it may be given again.

        Raises:
            redis.RedisError: Redis is away.
        """
        if not self._may_keep(generation):
            return None
        kept = self._client.get(self._key(user_id, generation))
        return CachedCompletion(**json.loads(kept)) if kept is not None else None

    def keep(
        self,
        user_id: UUID,
        generation: Generation,
        answer: CachedCompletion,
        *,
        pipe: Pipeline | None = None,
    ) -> None:
        """Keep an answer, if its request allows it. With Redis away it is not kept.

        Args:
            pipe: carries it out later, with other calls.
        """
        if not self._may_keep(generation):
            return
        kept = json.dumps(asdict(answer))
        if len(kept) > MAX_BYTES:
            return
        client = self._client if pipe is None else pipe
        try:
            client.set(self._key(user_id, generation), kept, ex=self._seconds)
        except redis.RedisError:
            _log.warning("an answer could not be kept: Redis is away")

    def _may_keep(self, generation: Generation) -> bool:
        return generation.cache and generation.is_deterministic and self._seconds > 0

    def _key(self, user_id: UUID, generation: Generation) -> str:
        asked = generation.model_dump(mode="json", exclude=_CIRCUMSTANCES)
        text = json.dumps([self._model, asked], sort_keys=True)
        return f"answer:{user_id.hex}:{hashlib.sha256(text.encode()).hexdigest()}"
